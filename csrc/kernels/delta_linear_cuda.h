// delta_linear on a GPU; see delta_linear.h for the CPU. Every function launches on `stream` and
// returns 0 or a cudaError_t; none allocates or waits. T: float, Half, BFloat16.
#pragma once
#include "kernels/delta_linear.h"

struct CUstream_st;  // cudaStream_t, so that no CUDA header is needed here

namespace lets {

template <typename T>
struct DeltaLinearCudaParams {
  RowsView<const T> base;      // [1|T, N, O]; data may be null: zeros
  RowsView<const T> x;         // [1|T, N, I]
  const int32_t* crow;         // [T*O + 1]
  const int32_t* col;          // [nnz]
  const int32_t* permutation;  // [nnz] position of each entry in values, or null: the same
  const T* values;             // [nnz]
  const T* bias;               // [T, O] or null
  T* out;                      // [T, N, O]
  int64_t num_tasks, num_tokens, in_features, out_features;
};

// out = base + x . delta^T + bias. One launch for all tasks; a shared x and a shared base are read
// once. The gradient of x is the same with the transposed structure, a permutation and no base.
template <typename T>
int delta_linear_cuda(const DeltaLinearCudaParams<T>& p, CUstream_st* stream);

template <typename T>
struct DeltaLinearValuesCudaParams {
  RowsView<const T> grad;  // [T, N, O]
  RowsView<const T> x;     // [1|T, N, I]
  const int32_t* crow;     // [T*O + 1]
  const int32_t* col;      // [nnz]
  float* partial;          // [num_splits, nnz]
  T* out;                  // [nnz]
  int64_t num_tasks, num_tokens, in_features, out_features, nnz;
};

// Tokens are cut by their number alone, so results do not depend on the device.
inline int64_t delta_linear_values_cuda_splits(int64_t num_tokens) {
  const int64_t splits = num_tokens / 128;
  return splits < 1 ? 1 : splits > 64 ? 64 : splits;
}

// out[e] = sum over tokens of grad[o(e)] * x[i(e)]; partial sums are added in a fixed order.
template <typename T>
int delta_linear_bwd_values_cuda(const DeltaLinearValuesCudaParams<T>& p, CUstream_st* stream);

}  // namespace lets

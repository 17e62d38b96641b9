// Gradient of the values of T sparse deltas, sampled at the mask (SDDMM). Torch-free.
#pragma once
#include "kernels/delta_linear.h"

namespace lets {

// out[e] = sum over tokens of grad[o(e)] * x[i(e)].
template <typename T>
struct DeltaLinearValuesParams {
  RowsView<const T> grad;   // [T, N, O]
  RowsView<const T> x;      // [T, N, I]
  const int32_t* crow;      // [T*O + 1]
  const int32_t* col;       // [nnz]
  Accumulator<T>* partial;  // [num_splits, nnz]
  T* out;                   // [nnz]
  int64_t num_tasks, num_tokens, in_features, out_features, nnz;
};

// Tokens are cut into splits by their number alone; partial sums are added in split order.
struct DeltaLinearValuesPlan {
  int64_t split_tokens, num_splits, num_parts, num_chunks;
  size_t scratch_bytes;
};

template <typename T>
DeltaLinearValuesPlan delta_linear_values_plan(const DeltaLinearValuesParams<T>& p,
                                               int64_t num_threads) {
  DeltaLinearValuesPlan plan{};
  plan.split_tokens = 256;
  plan.num_splits = (p.num_tokens + plan.split_tokens - 1) / plan.split_tokens;
  plan.num_parts = 1;
  plan.num_chunks = plan.num_splits;
  return plan;
}

// Fills partial[split] for the outputs of one chunk.
template <Isa isa, typename T>
void delta_linear_bwd_values_cpu(const DeltaLinearValuesParams<T>& p,
                                 const DeltaLinearValuesPlan& plan, int64_t chunk, void* scratch);

// out = sum of the partials.
template <Isa isa, typename T>
void delta_linear_reduce_values(const DeltaLinearValuesParams<T>& p,
                                const DeltaLinearValuesPlan& plan);

}  // namespace lets

#include "kernels/csr_search.cuh"
#include "kernels/delta_linear_cuda.h"
#include "kernels/row_tile.cuh"

namespace lets {
namespace {

constexpr int kThreads = 256;
constexpr int kEntries = 8;    // per thread and round
constexpr int kColumns = 512;  // outputs per block: 2000 entries at a density of 0.5% of 768

// One block: the entries of kColumns outputs of a task, over one split of the tokens. A thread
// keeps its entries' sums in registers while the tokens pass through shared memory; masks with more
// entries than kThreads * kEntries take further rounds.
template <typename T, int kRows>
__global__ void __launch_bounds__(kThreads, 2)
    delta_values_kernel(DeltaLinearValuesCudaParams<T> p, int64_t split_tokens, bool x_vectors,
                        bool grad_vectors) {
  const gpu::RowTile<T, kRows> x_tile{gpu::dynamic_shared<T>()};
  const gpu::RowTile<T, kRows> grad_tile{x_tile.data +
                                         gpu::RowTile<T, kRows>::bytes(p.in_features) / sizeof(T)};
  const int num_columns = static_cast<int>(p.out_features);
  const int begin = blockIdx.y * kColumns, end = gpu::smaller(num_columns, begin + kColumns);
  const int64_t first_token = blockIdx.x * split_tokens;
  const int64_t last_token = gpu::smaller(p.num_tokens, first_token + split_tokens);

  for (int64_t task = blockIdx.z; task < p.num_tasks; task += gridDim.z) {
    const int32_t* crow = p.crow + task * num_columns;
    const int first_entry = __ldg(crow + begin), last_entry = __ldg(crow + end);
    for (int round = first_entry; round < last_entry; round += kThreads * kEntries) {
      int column[kEntries], feature[kEntries];
      float sum[kEntries];
#pragma unroll
      for (int j = 0; j < kEntries; ++j) {
        const int e = round + j * kThreads + static_cast<int>(threadIdx.x);
        column[j] = e < last_entry ? gpu::row_of_entry(crow, begin, end, e) - begin : 0;
        feature[j] = e < last_entry ? __ldg(p.col + e) : 0;
        sum[j] = 0;
      }
      for (int64_t token = first_token; token < last_token; token += kRows) {
        const int num_rows = static_cast<int>(gpu::smaller<int64_t>(kRows, last_token - token));
        __syncthreads();
        x_tile.load(p.x.data + task * p.x.task_stride + token * p.x.row_stride, p.x.row_stride,
                    num_rows, static_cast<int>(p.in_features), x_vectors);
        grad_tile.load(p.grad.data + task * p.grad.task_stride + token * p.grad.row_stride + begin,
                       p.grad.row_stride, num_rows, end - begin, grad_vectors);
        __syncthreads();
#pragma unroll
        for (int j = 0; j < kEntries; ++j) {
          const auto x = x_tile.at(feature[j]), grad = grad_tile.at(column[j]);
#pragma unroll
          for (int m = 0; m < kRows; ++m)
            sum[j] += gpu::to_float(x.v[m]) * gpu::to_float(grad.v[m]);
        }
      }
#pragma unroll
      for (int j = 0; j < kEntries; ++j) {
        const int e = round + j * kThreads + static_cast<int>(threadIdx.x);
        if (e < last_entry) p.partial[blockIdx.x * p.nnz + e] = sum[j];
      }
    }
  }
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
    reduce_values_kernel(const float* partial, T* out, int64_t nnz, int64_t num_splits) {
  const int64_t step = static_cast<int64_t>(gridDim.x) * kThreads;
  for (int64_t e = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x; e < nnz; e += step) {
    float sum = 0;
    for (int64_t split = 0; split < num_splits; ++split) sum += partial[split * nnz + e];
    out[e] = gpu::from_float<T>(sum);
  }
}

template <typename T, int kRows>
size_t shared_bytes(const DeltaLinearValuesCudaParams<T>& p) {
  const int64_t columns = gpu::smaller<int64_t>(p.out_features, kColumns);
  return gpu::RowTile<T, kRows>::bytes(p.in_features) + gpu::RowTile<T, kRows>::bytes(columns);
}

template <typename T, int kRows>
int launch(const DeltaLinearValuesCudaParams<T>& p, CUstream_st* stream) {
  constexpr int kVector = 16 / sizeof(T);
  const int64_t splits = delta_linear_values_cuda_splits(p.num_tokens);
  const bool x_vectors = p.in_features % kVector == 0 &&
                         gpu::aligned_to<16>(p.x.data, p.x.task_stride, p.x.row_stride);
  // Every block's outputs but the last one's are kColumns, so the total decides.
  const bool grad_vectors = p.out_features % kVector == 0 &&
                            gpu::aligned_to<16>(p.grad.data, p.grad.task_stride, p.grad.row_stride);
  const dim3 grid(static_cast<unsigned>(splits),
                  static_cast<unsigned>(gpu::ceil_div<int64_t>(p.out_features, kColumns)),
                  static_cast<unsigned>(gpu::smaller<int64_t>(p.num_tasks, 65535)));
  const int status = gpu::launch(
      {"delta_linear_bwd_values", grid, dim3(kThreads), shared_bytes<T, kRows>(p), stream},
      delta_values_kernel<T, kRows>, p, gpu::ceil_div(p.num_tokens, splits), x_vectors,
      grad_vectors);
  if (status) return status;
  const int64_t blocks = gpu::ceil_div<int64_t>(p.nnz, kThreads);
  return gpu::launch({"delta_linear_bwd_values (reduce)",
                      dim3(static_cast<unsigned>(gpu::smaller<int64_t>(blocks, 65535))),
                      dim3(kThreads), 0, stream},
                     reduce_values_kernel<T>, p.partial, p.out, p.nnz, splits);
}

}  // namespace

template <typename T>
int delta_linear_bwd_values_cuda(const DeltaLinearValuesCudaParams<T>& p, CUstream_st* stream) {
  if (p.nnz == 0) return 0;
  constexpr int kWide = 16 / sizeof(T), kNarrow = 4 / sizeof(T);
  if (shared_bytes<T, kWide>(p) <= gpu::max_shared_bytes()) return launch<T, kWide>(p, stream);
  return launch<T, kNarrow>(p, stream);
}

template int delta_linear_bwd_values_cuda(const DeltaLinearValuesCudaParams<float>&, CUstream_st*);
template int delta_linear_bwd_values_cuda(const DeltaLinearValuesCudaParams<Half>&, CUstream_st*);
template int delta_linear_bwd_values_cuda(const DeltaLinearValuesCudaParams<BFloat16>&,
                                          CUstream_st*);

}  // namespace lets

#include "kernels/epilogues_cuda.h"
#include "kernels/gelu.cuh"

namespace lets {
namespace {

constexpr int kThreads = 128;

// A block: a split of the tokens of one task, and as many columns as its threads hold. Every thread
// keeps the sums of its columns in registers.
template <typename T, int kVector>
__global__ void __launch_bounds__(kThreads)
    bias_gelu_bwd_kernel(BiasGeluBwdParams<T> p, int64_t chunks) {
  constexpr int kBytes = kVector * sizeof(T);
  const int64_t column = (static_cast<int64_t>(blockIdx.y) * kThreads + threadIdx.x) * kVector;
  if (column >= p.features) return;
  for (int64_t chunk = blockIdx.x; chunk < chunks; chunk += gridDim.x) {
    const int64_t task = chunk % p.num_tasks, begin = chunk / p.num_tasks * kSplitTokens;
    const int64_t end = gpu::smaller(p.num_tokens, begin + kSplitTokens);
    const auto bias = gpu::load_constant<kBytes>(p.bias + task * p.bias_stride + column);
    float sums[kVector] = {};
    for (int64_t token = begin; token < end; ++token) {
      const int64_t at = (task * p.num_tokens + token) * p.features + column;
      const auto x = gpu::load_constant<kBytes>(p.x + at);
      const auto grad = gpu::load_constant<kBytes>(p.grad + at);
      gpu::Pack<T, kBytes> out;
#pragma unroll
      for (int j = 0; j < kVector; ++j) {
        const float slope = gpu::gelu_slope(gpu::to_float(x.v[j]) + gpu::to_float(bias.v[j]));
        const float value = gpu::to_float(grad.v[j]) * slope;
        sums[j] += value;
        out.v[j] = gpu::from_float<T>(value);
      }
      gpu::store_pack(p.grad_x + at, out);
    }
#pragma unroll
    for (int j = 0; j < kVector; ++j) p.grad_bias[chunk * p.features + column + j] = sums[j];
  }
}

template <typename T, int kVector>
int launch(const BiasGeluBwdParams<T>& p, CUstream_st* stream) {
  const int64_t chunks = num_splits(p.num_tokens) * p.num_tasks;
  const int64_t slabs = gpu::ceil_div<int64_t>(p.features, kThreads * kVector);
  const dim3 grid(static_cast<unsigned>(gpu::smaller<int64_t>(chunks, 1 << 20)),
                  static_cast<unsigned>(slabs));
  return gpu::launch({"bias_gelu_bwd", grid, dim3(kThreads), 0, stream},
                     bias_gelu_bwd_kernel<T, kVector>, p, chunks);
}

}  // namespace

template <typename T>
int bias_gelu_bwd_cuda(const BiasGeluBwdParams<T>& p, CUstream_st* stream) {
  if (p.num_tasks * p.num_tokens == 0 || p.features == 0) return 0;
  constexpr int kVector = 16 / sizeof(T);
  const bool vectors = p.features % kVector == 0 && gpu::aligned_to<16>(p.x) &&
                       gpu::aligned_to<16>(p.grad) && gpu::aligned_to<16>(p.bias) &&
                       gpu::aligned_to<16>(p.grad_x);
  return vectors ? launch<T, kVector>(p, stream) : launch<T, 1>(p, stream);
}

template int bias_gelu_bwd_cuda(const BiasGeluBwdParams<float>&, CUstream_st*);
template int bias_gelu_bwd_cuda(const BiasGeluBwdParams<Half>&, CUstream_st*);
template int bias_gelu_bwd_cuda(const BiasGeluBwdParams<BFloat16>&, CUstream_st*);

}  // namespace lets

#include "kernels/epilogues_cuda.h"
#include "kernels/gelu.cuh"

namespace lets {
namespace {

constexpr int kThreads = 128;

template <typename T, int kVector>
__global__ void __launch_bounds__(kThreads)
    bias_gelu_kernel(BiasGeluParams<T> p, int64_t num_rows) {
  constexpr int kBytes = kVector * sizeof(T);
  const int features = static_cast<int>(p.features);
  for (int64_t r = blockIdx.x; r < num_rows; r += gridDim.x) {
    const T* bias = p.bias + r / p.num_tokens * p.bias_stride;
    for (int i = threadIdx.x * kVector; i < features; i += kThreads * kVector) {
      const auto x = gpu::load_constant<kBytes>(p.x + r * features + i);
      const auto b = gpu::load_constant<kBytes>(bias + i);
      gpu::Pack<T, kBytes> out;
#pragma unroll
      for (int j = 0; j < kVector; ++j)
        out.v[j] = gpu::from_float<T>(gpu::gelu(gpu::to_float(x.v[j]) + gpu::to_float(b.v[j])));
      gpu::store_pack(p.out + r * features + i, out);
    }
  }
}

template <typename T, int kVector>
int launch(const BiasGeluParams<T>& p, int64_t num_rows, CUstream_st* stream) {
  const auto blocks = static_cast<unsigned>(gpu::smaller<int64_t>(num_rows, 1 << 20));
  return gpu::launch({"bias_gelu", dim3(blocks), dim3(kThreads), 0, stream},
                     bias_gelu_kernel<T, kVector>, p, num_rows);
}

}  // namespace

template <typename T>
int bias_gelu_cuda(const BiasGeluParams<T>& p, int64_t num_tasks, CUstream_st* stream) {
  const int64_t num_rows = num_tasks * p.num_tokens;
  if (num_rows == 0 || p.features == 0) return 0;
  constexpr int kVector = 16 / sizeof(T);
  const bool vectors = p.features % kVector == 0 && gpu::aligned_to<16>(p.x) &&
                       gpu::aligned_to<16>(p.bias) && gpu::aligned_to<16>(p.out);
  return vectors ? launch<T, kVector>(p, num_rows, stream) : launch<T, 1>(p, num_rows, stream);
}

template int bias_gelu_cuda(const BiasGeluParams<float>&, int64_t, CUstream_st*);
template int bias_gelu_cuda(const BiasGeluParams<Half>&, int64_t, CUstream_st*);
template int bias_gelu_cuda(const BiasGeluParams<BFloat16>&, int64_t, CUstream_st*);

}  // namespace lets

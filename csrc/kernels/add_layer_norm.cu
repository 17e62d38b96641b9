#include "kernels/block_reduce.cuh"
#include "kernels/epilogues_cuda.h"

namespace lets {
namespace {

constexpr int kThreads = 128;

// A block per row. The row waits in shared memory as fp32 between the passes for mean, variance and
// result, so global memory is read once.
template <typename T, int kVector>
__global__ void __launch_bounds__(kThreads, 8)
    add_layer_norm_kernel(AddLayerNormParams<T> p, int64_t num_rows) {
  constexpr int kBytes = kVector * sizeof(T);
  LETS_SHARED_ARRAY(float, scratch, 33);
  float* row = gpu::dynamic_shared<float>();
  const int hidden = static_cast<int>(p.hidden), first = threadIdx.x * kVector;
  constexpr int kStep = kThreads * kVector;
  // Each thread reads back what it has written itself, so no barrier is needed, and its values lie
  // kThreads apart: no two lanes meet in a bank.
  const auto mine = [&](int i, int j) -> float& {
    return row[(i / kStep * kVector + j) * kThreads + threadIdx.x];
  };
  for (int64_t r = blockIdx.x; r < num_rows; r += gridDim.x) {
    const int64_t task = r / p.num_tokens, token = r % p.num_tokens;
    const T* x = p.x + r * hidden;
    const T* residual = p.residual + task * p.residual_stride + token * hidden;
    const T* bias = p.bias ? p.bias + task * p.bias_stride : nullptr;
    float sum = 0;
    for (int i = first; i < hidden; i += kStep) {
      const auto a = gpu::load_constant<kBytes>(x + i),
                 b = gpu::load_constant<kBytes>(residual + i);
      gpu::Pack<T, kBytes> c{};
      if (bias) c = gpu::load_constant<kBytes>(bias + i);
#pragma unroll
      for (int j = 0; j < kVector; ++j) {
        const float value = gpu::to_float(a.v[j]) + gpu::to_float(b.v[j]) + gpu::to_float(c.v[j]);
        mine(i, j) = value;
        sum += value;
      }
    }
    const float mean = gpu::block_sum(sum, scratch) / hidden;
    float squares = 0;
    for (int i = first; i < hidden; i += kStep) {
#pragma unroll
      for (int j = 0; j < kVector; ++j) squares += (mine(i, j) - mean) * (mine(i, j) - mean);
    }
    const float variance = gpu::block_sum(squares, scratch) / hidden;
    const float rstd = rsqrtf(variance + static_cast<float>(p.eps));
    if (threadIdx.x == 0) {
      p.mean[r] = mean;
      p.rstd[r] = rstd;
    }
    const T* weight = p.weight + task * p.weight_stride;
    const T* norm_bias = p.norm_bias + task * p.norm_bias_stride;
    for (int i = first; i < hidden; i += kStep) {
      const auto w = gpu::load_constant<kBytes>(weight + i);
      const auto b = gpu::load_constant<kBytes>(norm_bias + i);
      gpu::Pack<T, kBytes> out;
#pragma unroll
      for (int j = 0; j < kVector; ++j) {
        const float y = (mine(i, j) - mean) * rstd;
        out.v[j] = gpu::from_float<T>(y * gpu::to_float(w.v[j]) + gpu::to_float(b.v[j]));
      }
      gpu::store_pack(p.out + r * hidden + i, out);
    }
  }
}

template <typename T, int kVector>
int launch(const AddLayerNormParams<T>& p, int64_t num_rows, CUstream_st* stream) {
  const auto blocks = static_cast<unsigned>(gpu::smaller<int64_t>(num_rows, 1 << 20));
  const size_t bytes =
      gpu::ceil_div<int64_t>(p.hidden, kThreads * kVector) * kThreads * kVector * sizeof(float);
  return gpu::launch({"add_layer_norm", dim3(blocks), dim3(kThreads), bytes, stream},
                     add_layer_norm_kernel<T, kVector>, p, num_rows);
}

}  // namespace

template <typename T>
int add_layer_norm_cuda(const AddLayerNormParams<T>& p, int64_t num_tasks, CUstream_st* stream) {
  const int64_t num_rows = num_tasks * p.num_tokens;
  if (num_rows == 0 || p.hidden == 0) return 0;
  constexpr int kVector = 16 / sizeof(T);
  const bool vectors = p.hidden % kVector == 0 && gpu::aligned_to<16>(p.x) &&
                       gpu::aligned_to<16>(p.residual) && gpu::aligned_to<16>(p.bias) &&
                       gpu::aligned_to<16>(p.weight) && gpu::aligned_to<16>(p.norm_bias) &&
                       gpu::aligned_to<16>(p.out);
  return vectors ? launch<T, kVector>(p, num_rows, stream) : launch<T, 1>(p, num_rows, stream);
}

template int add_layer_norm_cuda(const AddLayerNormParams<float>&, int64_t, CUstream_st*);
template int add_layer_norm_cuda(const AddLayerNormParams<Half>&, int64_t, CUstream_st*);
template int add_layer_norm_cuda(const AddLayerNormParams<BFloat16>&, int64_t, CUstream_st*);

}  // namespace lets

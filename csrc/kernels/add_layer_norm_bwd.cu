#include "kernels/block_reduce.cuh"
#include "kernels/epilogues_cuda.h"

namespace lets {
namespace {

constexpr int kThreads = 128;

// What a thread keeps of each of its columns in shared memory: the gradient of the normed row and
// the normed row between the two passes over a row, and the three sums over the split.
enum Slot { kScaled, kNormed, kWeight, kNormBias, kBias, kSlots };

// A block: a split of the tokens of one task, row by row. Global memory is read once.
template <typename T, int kVector>
__global__ void __launch_bounds__(kThreads)
    add_layer_norm_bwd_kernel(AddLayerNormBwdParams<T> p, int64_t chunks) {
  constexpr int kBytes = kVector * sizeof(T), kStep = kThreads * kVector;
  LETS_SHARED_ARRAY(float, scratch, 33);
  float* columns = gpu::dynamic_shared<float>();
  const int hidden = static_cast<int>(p.hidden), first = threadIdx.x * kVector;
  const int padded = gpu::ceil_div(hidden, kStep) * kStep;
  // Each thread reads back what it has written itself, so no barrier is needed, and its values lie
  // kThreads apart: no two lanes meet in a bank.
  const auto mine = [&](Slot slot, int i, int j) -> float& {
    return columns[slot * padded + (i / kStep * kVector + j) * kThreads + threadIdx.x];
  };
  for (int64_t chunk = blockIdx.x; chunk < chunks; chunk += gridDim.x) {
    const int64_t task = chunk % p.num_tasks, begin = chunk / p.num_tasks * kSplitTokens;
    const int64_t end = gpu::smaller(p.num_tokens, begin + kSplitTokens);
    const T* bias = p.bias ? p.bias + task * p.bias_stride : nullptr;
    const T* weight = p.weight + task * p.weight_stride;
    for (int i = first; i < hidden; i += kStep) {
#pragma unroll
      for (int j = 0; j < kVector; ++j)
        mine(kWeight, i, j) = mine(kNormBias, i, j) = mine(kBias, i, j) = 0;
    }
    for (int64_t token = begin; token < end; ++token) {
      const int64_t r = task * p.num_tokens + token;
      const T* residual = p.residual + task * p.residual_stride + token * hidden;
      const float mean = p.mean[r], rstd = p.rstd[r];
      float sum = 0, product = 0;
      for (int i = first; i < hidden; i += kStep) {
        const auto g = gpu::load_constant<kBytes>(p.grad + r * hidden + i);
        const auto a = gpu::load_constant<kBytes>(p.x + r * hidden + i);
        const auto b = gpu::load_constant<kBytes>(residual + i);
        const auto w = gpu::load_constant<kBytes>(weight + i);
        gpu::Pack<T, kBytes> c{};
        if (bias) c = gpu::load_constant<kBytes>(bias + i);
#pragma unroll
        for (int j = 0; j < kVector; ++j) {
          const float row = gpu::to_float(a.v[j]) + gpu::to_float(b.v[j]) + gpu::to_float(c.v[j]);
          const float normed = (row - mean) * rstd, grad = gpu::to_float(g.v[j]);
          const float scaled = grad * gpu::to_float(w.v[j]);
          sum += scaled;
          product += scaled * normed;
          mine(kScaled, i, j) = scaled;
          mine(kNormed, i, j) = normed;
          mine(kWeight, i, j) += grad * normed;
          mine(kNormBias, i, j) += grad;
        }
      }
      const float mean_sum = gpu::block_sum(sum, scratch) / hidden;
      const float mean_product = gpu::block_sum(product, scratch) / hidden;
      for (int i = first; i < hidden; i += kStep) {
        gpu::Pack<T, kBytes> out;
#pragma unroll
        for (int j = 0; j < kVector; ++j) {
          const float centred = mine(kScaled, i, j) - mean_sum;
          const float value = (centred - mine(kNormed, i, j) * mean_product) * rstd;
          mine(kBias, i, j) += value;
          out.v[j] = gpu::from_float<T>(value);
        }
        gpu::store_pack(p.grad_x + r * hidden + i, out);
      }
    }
    for (int i = first; i < hidden; i += kStep) {
#pragma unroll
      for (int j = 0; j < kVector; ++j) {
        float* to = p.sums + chunk * hidden + i + j;
        to[0] = mine(kWeight, i, j);
        to[chunks * hidden] = mine(kNormBias, i, j);
        to[2 * chunks * hidden] = mine(kBias, i, j);
      }
    }
  }
}

template <typename T, int kVector>
int launch(const AddLayerNormBwdParams<T>& p, CUstream_st* stream) {
  const int64_t chunks = num_splits(p.num_tokens) * p.num_tasks;
  const int64_t padded = gpu::ceil_div<int64_t>(p.hidden, kThreads * kVector) * kThreads * kVector;
  const auto blocks = static_cast<unsigned>(gpu::smaller<int64_t>(chunks, 1 << 20));
  return gpu::launch(
      {"add_layer_norm_bwd", dim3(blocks), dim3(kThreads), kSlots * padded * sizeof(float), stream},
      add_layer_norm_bwd_kernel<T, kVector>, p, chunks);
}

}  // namespace

template <typename T>
int add_layer_norm_bwd_cuda(const AddLayerNormBwdParams<T>& p, CUstream_st* stream) {
  if (p.num_tasks * p.num_tokens == 0 || p.hidden == 0) return 0;
  constexpr int kVector = 16 / sizeof(T);
  const bool vectors = p.hidden % kVector == 0 && gpu::aligned_to<16>(p.grad) &&
                       gpu::aligned_to<16>(p.x) && gpu::aligned_to<16>(p.residual) &&
                       gpu::aligned_to<16>(p.bias) && gpu::aligned_to<16>(p.weight) &&
                       gpu::aligned_to<16>(p.grad_x);
  return vectors ? launch<T, kVector>(p, stream) : launch<T, 1>(p, stream);
}

template int add_layer_norm_bwd_cuda(const AddLayerNormBwdParams<float>&, CUstream_st*);
template int add_layer_norm_bwd_cuda(const AddLayerNormBwdParams<Half>&, CUstream_st*);
template int add_layer_norm_bwd_cuda(const AddLayerNormBwdParams<BFloat16>&, CUstream_st*);

}  // namespace lets

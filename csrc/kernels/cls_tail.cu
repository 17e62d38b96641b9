#include "kernels/cls_tail_cuda.h"
#include "kernels/gelu.cuh"
#include "kernels/tail_product.cuh"

namespace lets {
namespace {

using gpu::kTailOutputs;
using gpu::kTailRows;
using gpu::kTailThreads;
using gpu::kTailWarps;

template <bool kTensor>
constexpr int kSums = kTailWarps * kTailRows<kTensor> * kTailOutputs;

// The slice [begin, end) of n outputs that this block computes; every weight is read by one block.
__device__ __forceinline__ void block_slice(int n, int* begin, int* end) {
  const int size = gpu::ceil_div(n, static_cast<int>(gridDim.x));
  *begin = gpu::smaller(static_cast<int>(blockIdx.x) * size, n);
  *end = gpu::smaller(*begin + size, n);
}

// emit(row, output, sum) for every row of the pass and output of the slice, where the sum has the
// delta and the bias in it.
template <typename T, bool kTensor, int kVector, typename Emit>
__device__ void linear(const TailLinear<T>& layer, int64_t first_row, int num_rows,
                       int64_t rows_per_task, const T* staged, float* sums, const Emit& emit) {
  const int features = static_cast<int>(layer.in_features);
  const int64_t stride = gpu::staged_stride<T>(features);
  int begin, end;
  block_slice(static_cast<int>(layer.out_features), &begin, &end);
  for (int first = begin; first < end; first += kTailOutputs) {
    const int outputs = gpu::smaller(kTailOutputs, end - first);
    gpu::multiply<T, kTensor, kVector>(layer.weight + static_cast<int64_t>(first) * features,
                                       outputs, staged, stride, num_rows, features, sums);
    __syncthreads();
    const int row = threadIdx.x / kTailOutputs, output = threadIdx.x % kTailOutputs;
    if (row < num_rows && output < outputs) {
      const int64_t task = (first_row + row) / rows_per_task;
      float sum = 0;
      for (int warp = 0; warp < kTailWarps; ++warp)
        sum += sums[(warp * kTailRows<kTensor> + row) * kTailOutputs + output];
      if (layer.crow) {
        const int32_t* crow = layer.crow + task * layer.out_features + first + output;
        const int last = __ldg(crow + 1);
        for (int e = __ldg(crow); e < last; ++e)
          sum += gpu::to_float(layer.values[e]) *
                 gpu::to_float(staged[row * stride + __ldg(layer.col + e)]);
      }
      sum += gpu::to_float(layer.bias.data[task * layer.bias.stride + first + output]);
      emit(first_row + row, first + output, sum);
    }
    __syncthreads();  // the sums have been read
  }
}

// A warp per row. Plain loads: other blocks of the same launch may have written the rows.
template <int kVector, typename T>
__device__ void stage_rows(const T* rows, int num_rows, int features, T* staged) {
  const int64_t stride = gpu::staged_stride<T>(features);
  for (int r = threadIdx.x / 32; r < num_rows; r += kTailWarps) {
    const T* row = rows + static_cast<int64_t>(r) * features;
    for (int i = threadIdx.x % 32 * kVector; i < features; i += 32 * kVector)
      gpu::store_pack(staged + r * stride + i, gpu::load_pack<kVector * sizeof(T)>(row + i));
  }
}

enum class Phase { kAttn, kUp, kDown, kNorm };

template <typename T, bool kTensor, int kVector, Phase kPhase>
__device__ void run_phase(const ClsTailCudaParams<T>& p, int rows_per_pass) {
  const int64_t total = p.num_tasks * p.num_rows, m = p.num_rows;
  const int hidden = static_cast<int>(p.hidden), inner = static_cast<int>(p.inner_features);
  const int warp = threadIdx.x / 32;
  const float eps = static_cast<float>(p.eps);
  if constexpr (kPhase == Phase::kNorm) {
    for (int64_t r = blockIdx.x + static_cast<int64_t>(gridDim.x) * warp; r < total;
         r += static_cast<int64_t>(gridDim.x) * kTailWarps) {
      const int64_t task = r / m;
      gpu::layer_norm_row(p.down_sums + r * hidden,
                          p.norm_weight.data + task * p.norm_weight.stride,
                          p.norm_bias.data + task * p.norm_bias.stride, hidden, eps,
                          [&](int i, float y) { p.out[r * hidden + i] = gpu::from_float<T>(y); });
    }
    return;
  }
  float* sums = gpu::dynamic_shared<float>();
  T* staged = reinterpret_cast<T*>(sums + kSums<kTensor>);
  for (int64_t first = 0; first < total; first += rows_per_pass) {
    const int num_rows = static_cast<int>(gpu::smaller<int64_t>(rows_per_pass, total - first));
    if constexpr (kPhase == Phase::kAttn) {
      stage_rows<kVector>(p.ctx + first * hidden, num_rows, hidden, staged);
      __syncthreads();
      linear<T, kTensor, kVector>(
          p.attn, first, num_rows, m, staged, sums, [&](int64_t r, int o, float sum) {
            const T* residual = p.residual + r / m * p.residual_stride + r % m * hidden;
            p.attn_sums[r * hidden + o] = sum + gpu::to_float(residual[o]);
          });
    } else if constexpr (kPhase == Phase::kUp) {
      // Every block normalises all rows: cheaper than one more barrier of the grid.
      const int64_t stride = gpu::staged_stride<T>(hidden);
      for (int r = warp; r < num_rows; r += kTailWarps) {
        const int64_t row = first + r, task = row / m;
        const bool mine = row % gridDim.x == blockIdx.x;
        gpu::layer_norm_row(p.attn_sums + row * hidden,
                            p.attn_norm_weight.data + task * p.attn_norm_weight.stride,
                            p.attn_norm_bias.data + task * p.attn_norm_bias.stride, hidden, eps,
                            [&](int i, float y) {
                              staged[r * stride + i] = gpu::from_float<T>(y);
                              if (mine) p.h[row * hidden + i] = y;
                            });
      }
      __syncthreads();
      linear<T, kTensor, kVector>(p.up, first, num_rows, m, staged, sums,
                                  [&](int64_t r, int o, float sum) {
                                    p.inner[r * inner + o] = gpu::from_float<T>(gpu::gelu(sum));
                                  });
    } else {
      stage_rows<kVector>(p.inner + first * inner, num_rows, inner, staged);
      __syncthreads();
      linear<T, kTensor, kVector>(p.down, first, num_rows, m, staged, sums,
                                  [&](int64_t r, int o, float sum) {
                                    p.down_sums[r * hidden + o] = sum + p.h[r * hidden + o];
                                  });
    }
    __syncthreads();  // the staged rows have been read
  }
}

// Later phases find their weights in the L2 cache.
template <typename T>
__device__ void prefetch_slice(const TailLinear<T>& layer) {
  int begin, end;
  block_slice(static_cast<int>(layer.out_features), &begin, &end);
  const auto* bytes = reinterpret_cast<const char*>(layer.weight + begin * layer.in_features);
  const int64_t size = (end - begin) * layer.in_features * static_cast<int64_t>(sizeof(T));
  for (int64_t i = threadIdx.x * 128; i < size; i += kTailThreads * 128)
    gpu::prefetch_to_l2(bytes + i);
}

template <typename T, bool kTensor, int kVector>
__global__ void __launch_bounds__(kTailThreads, 1)
    persistent_kernel(ClsTailCudaParams<T> p, int rows_per_pass) {
  prefetch_slice(p.up);
  prefetch_slice(p.down);
  run_phase<T, kTensor, kVector, Phase::kAttn>(p, rows_per_pass);
  gpu::grid_sync();
  run_phase<T, kTensor, kVector, Phase::kUp>(p, rows_per_pass);
  gpu::grid_sync();
  run_phase<T, kTensor, kVector, Phase::kDown>(p, rows_per_pass);
  gpu::grid_sync();
  run_phase<T, kTensor, kVector, Phase::kNorm>(p, rows_per_pass);
}

template <typename T, bool kTensor, int kVector, Phase kPhase>
__global__ void __launch_bounds__(kTailThreads, 1)
    phase_kernel(ClsTailCudaParams<T> p, int rows_per_pass) {
  run_phase<T, kTensor, kVector, kPhase>(p, rows_per_pass);
}

template <typename T, bool kTensor, int kVector>
int launch(const ClsTailCudaParams<T>& p, CUstream_st* stream, ClsTailLaunch how) {
  const int64_t total = p.num_tasks * p.num_rows;
  const int64_t widest = p.hidden < p.inner_features ? p.inner_features : p.hidden;
  const size_t fixed = kSums<kTensor> * sizeof(float);
  const size_t row = gpu::staged_stride<T>(widest) * sizeof(T);
  const size_t room = gpu::max_shared_bytes();
  const int64_t fitting = room < fixed + row ? 1 : static_cast<int64_t>((room - fixed) / row);
  const int rows = static_cast<int>(
      gpu::smaller<int64_t>(gpu::smaller<int64_t>(kTailRows<kTensor>, fitting), total));
  const size_t bytes = fixed + rows * row;
  const auto persistent = persistent_kernel<T, kTensor, kVector>;
  const int64_t blocks = gpu::smaller<int64_t>(gpu::num_multiprocessors(), widest);
  const auto grid = static_cast<unsigned>(blocks);
  // With many rows the products outweigh the launches that a persistent grid saves.
  const bool few_rows = total <= 4 * kTailRows<kTensor>;
  if (how == ClsTailLaunch::kPersistent || (how == ClsTailLaunch::kAutomatic && few_rows)) {
    if (gpu::max_resident_blocks(persistent, kTailThreads, bytes) >= blocks)
      return gpu::launch({"cls_tail", dim3(grid), dim3(kTailThreads), bytes, stream, true},
                         persistent, p, rows);
  }
  const auto next = [&](const char* name, auto kernel) {
    return gpu::launch({name, dim3(grid), dim3(kTailThreads), bytes, stream}, kernel, p, rows);
  };
  if (const int status =
          next("cls_tail (attention)", phase_kernel<T, kTensor, kVector, Phase::kAttn>))
    return status;
  if (const int status = next("cls_tail (up)", phase_kernel<T, kTensor, kVector, Phase::kUp>))
    return status;
  if (const int status = next("cls_tail (down)", phase_kernel<T, kTensor, kVector, Phase::kDown>))
    return status;
  return next("cls_tail (norm)", phase_kernel<T, kTensor, kVector, Phase::kNorm>);
}

}  // namespace

template <typename T>
int cls_tail_cuda(const ClsTailCudaParams<T>& p, CUstream_st* stream, ClsTailLaunch how) {
  if (p.num_tasks == 0 || p.num_rows == 0 || p.hidden == 0) return 0;
  constexpr int kVector = 16 / sizeof(T);
  const bool vectors = p.hidden % kVector == 0 && p.inner_features % kVector == 0 &&
                       gpu::aligned_to<16>(p.ctx) && gpu::aligned_to<16>(p.inner) &&
                       gpu::aligned_to<16>(p.attn.weight) && gpu::aligned_to<16>(p.up.weight) &&
                       gpu::aligned_to<16>(p.down.weight);
  if (!vectors) return launch<T, false, 1>(p, stream, how);
  if constexpr (std::is_same_v<T, float>) {
    return launch<T, false, kVector>(p, stream, how);
  } else {
    return launch<T, true, kVector>(p, stream, how);
  }
}

template int cls_tail_cuda(const ClsTailCudaParams<float>&, CUstream_st*, ClsTailLaunch);
template int cls_tail_cuda(const ClsTailCudaParams<Half>&, CUstream_st*, ClsTailLaunch);
template int cls_tail_cuda(const ClsTailCudaParams<BFloat16>&, CUstream_st*, ClsTailLaunch);

}  // namespace lets

#include "kernels/cls_tail_cuda.h"
#include "kernels/gelu.cuh"
#include "kernels/tail_product.cuh"

namespace lets {
namespace {

using gpu::kTailOutputs;
using gpu::kTailRows;
using gpu::kTailThreads;
using gpu::kTailWarps;
using gpu::TailStep;

template <bool kTensor>
constexpr int kSums = kTailWarps * kTailRows<kTensor> * kTailOutputs;

// emit(row, output, sum) for every row of the pass and outputs [begin, end), where the sum has the
// delta and the bias in it.
template <typename T, bool kTensor, int kVector, typename Stream, typename Emit>
__device__ void linear(const TailLinear<T>& layer, Stream& weights, int begin, int end,
                       int64_t first_row, int num_rows, int64_t rows_per_task, const T* staged,
                       float* sums, const Emit& emit) {
  const int features = static_cast<int>(layer.in_features);
  const int64_t stride = gpu::staged_stride<T>(features);
  for (int first = begin; first < end; first += kTailOutputs) {
    const int outputs = gpu::smaller(kTailOutputs, end - first);
    if constexpr (kTensor) {
      gpu::multiply_tensor(weights, staged, stride, num_rows, features, sums);
    } else {
      gpu::multiply_scalar<T, kVector>(weights, staged, stride, num_rows, features, sums);
    }
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

template <typename T, bool kTensor, int kVector, TailStep kStep, typename Stream>
__device__ void multiply_layer(const ClsTailCudaParams<T>& p, Stream& weights,
                               const gpu::TailParts& parts, int layer, int rows_per_pass,
                               float* sums, T* staged) {
  const int64_t total = p.num_tasks * p.num_rows, m = p.num_rows;
  const int hidden = static_cast<int>(p.hidden), inner = static_cast<int>(p.inner_features);
  const int warp = threadIdx.x / 32, begin = parts.begin(layer), end = parts.end(layer);
  for (int64_t first = 0; first < total; first += rows_per_pass) {
    const int num_rows = static_cast<int>(gpu::smaller<int64_t>(rows_per_pass, total - first));
    const auto product = [&](const TailLinear<T>& l, const auto& emit) {
      __syncthreads();  // the rows are staged
      linear<T, kTensor, kVector>(l, weights, begin, end, first, num_rows, m, staged, sums, emit);
      __syncthreads();  // and have been read
    };
    if constexpr (kStep == TailStep::kAttn) {
      stage_rows<kVector>(p.ctx + first * hidden, num_rows, hidden, staged);
      product(p.attn, [&](int64_t r, int o, float sum) {
        const T* residual = p.residual + r / m * p.residual_stride + r % m * hidden;
        p.attn_sums[r * hidden + o] = sum + gpu::to_float(residual[o]);
      });
    } else if constexpr (kStep == TailStep::kUp) {
      // Every block normalises all rows: cheaper than one more barrier of the grid.
      const int64_t stride = gpu::staged_stride<T>(hidden);
      for (int r = warp; r < num_rows; r += kTailWarps) {
        const int64_t row = first + r, task = row / m;
        const bool mine = parts.first_block(layer) + row % parts.num_blocks(layer) == blockIdx.x;
        gpu::layer_norm_row(p.attn_sums + row * hidden,
                            p.attn_norm_weight.data + task * p.attn_norm_weight.stride,
                            p.attn_norm_bias.data + task * p.attn_norm_bias.stride, hidden,
                            static_cast<float>(p.eps), [&](int i, float y) {
                              staged[r * stride + i] = gpu::from_float<T>(y);
                              if (mine) p.h[row * hidden + i] = y;
                            });
      }
      product(p.up, [&](int64_t r, int o, float sum) {
        p.inner[r * inner + o] = gpu::from_float<T>(gpu::gelu(sum));
      });
    } else {
      stage_rows<kVector>(p.inner + first * inner, num_rows, inner, staged);
      product(p.down, [&](int64_t r, int o, float sum) {
        p.down_sums[r * hidden + o] = sum + p.h[r * hidden + o];
      });
    }
  }
}

// A warp per row; warps go on counting from one layer to the next.
template <typename T, int kMaxLayers>
__device__ void norm_rows(const gpu::TailLayers<T, kMaxLayers>& layers) {
  const int64_t warps = static_cast<int64_t>(gridDim.x) * kTailWarps;
  int64_t r = blockIdx.x + static_cast<int64_t>(gridDim.x) * (threadIdx.x / 32);
  for (int i = 0; i < layers.num_layers; ++i) {
    const ClsTailCudaParams<T>& p = layers.layer[i];
    const int64_t total = layers.num_rows(i);
    const int hidden = static_cast<int>(p.hidden);
    for (; r < total; r += warps) {
      const int64_t task = r / p.num_rows;
      gpu::layer_norm_row(
          p.down_sums + r * hidden, p.norm_weight.data + task * p.norm_weight.stride,
          p.norm_bias.data + task * p.norm_bias.stride, hidden, static_cast<float>(p.eps),
          [&](int j, float y) { p.out[r * hidden + j] = gpu::from_float<T>(y); });
    }
    r -= total;
  }
}

template <typename T, bool kTensor, int kVector, TailStep kStep, int kMaxLayers, typename Stream>
__device__ void run_step(const gpu::TailLayers<T, kMaxLayers>& layers, Stream& weights) {
  auto* shared = gpu::dynamic_shared<unsigned char>();
  float* sums = reinterpret_cast<float*>(shared + Stream::kSharedBytes);
  T* staged = reinterpret_cast<T*>(sums + kSums<kTensor>);
  const gpu::TailParts parts(layers.num_layers,
                             static_cast<int>(layers.linear(kStep, 0).out_features));
  for (int i = 0; i < layers.num_layers; ++i) {
    if (parts.begin(i) < parts.end(i))
      multiply_layer<T, kTensor, kVector, kStep>(layers.layer[i], weights, parts, i,
                                                 layers.rows_per_pass, sums, staged);
  }
}

// One layer fits the L2 cache: later steps find there what the stream has not come to.
template <typename T>
__device__ void prefetch_part(const TailLinear<T>& layer) {
  const gpu::TailParts parts(1, static_cast<int>(layer.out_features));
  const auto* bytes =
      reinterpret_cast<const char*>(layer.weight + parts.begin(0) * layer.in_features);
  const int64_t size = (parts.end(0) - parts.begin(0)) * layer.in_features * sizeof(T);
  for (int64_t i = threadIdx.x * 128; i < size; i += kTailThreads * 128)
    gpu::prefetch_to_l2(bytes + i);
}

template <typename T, bool kTensor, int kVector, int kMaxLayers>
__global__ void __launch_bounds__(kTailThreads, 1)
    persistent_kernel(const __grid_constant__ gpu::TailLayers<T, kMaxLayers> layers) {
  gpu::WeightStream<T, kTensor, kVector, kMaxLayers> weights(
      layers, TailStep::kAttn, TailStep::kNorm, gpu::dynamic_shared<unsigned char>());
  if (kMaxLayers == 1) {
    prefetch_part(layers.layer[0].up);
    prefetch_part(layers.layer[0].down);
  }
  run_step<T, kTensor, kVector, TailStep::kAttn>(layers, weights);
  gpu::grid_sync();
  run_step<T, kTensor, kVector, TailStep::kUp>(layers, weights);
  gpu::grid_sync();
  run_step<T, kTensor, kVector, TailStep::kDown>(layers, weights);
  gpu::grid_sync();
  norm_rows(layers);
}

template <typename T, bool kTensor, int kVector, TailStep kStep>
__global__ void __launch_bounds__(kTailThreads, 1)
    step_kernel(const __grid_constant__ gpu::TailLayers<T, 1> layers) {
  if constexpr (kStep == TailStep::kNorm) {
    norm_rows(layers);
  } else {
    gpu::WeightStream<T, kTensor, kVector, 1> weights(
        layers, kStep, static_cast<TailStep>(static_cast<int>(kStep) + 1),
        gpu::dynamic_shared<unsigned char>());
    run_step<T, kTensor, kVector, kStep>(layers, weights);
  }
}

// What the layers of a group need of a block.
template <typename T, bool kTensor, int kVector>
struct TailPlan {
  int rows_per_pass;
  size_t bytes;
  int64_t most_rows = 0, widest;

  TailPlan(const ClsTailCudaParams<T>* layers, int num_layers)
      : widest(layers->hidden < layers->inner_features ? layers->inner_features : layers->hidden) {
    for (int i = 0; i < num_layers; ++i) {
      const int64_t rows = layers[i].num_tasks * layers[i].num_rows;
      most_rows = rows > most_rows ? rows : most_rows;
    }
    using Stream = gpu::WeightStream<T, kTensor, kVector, 1>;
    const size_t fixed = Stream::kSharedBytes + kSums<kTensor> * sizeof(float);
    const size_t row = gpu::staged_stride<T>(widest) * sizeof(T), room = gpu::max_shared_bytes();
    const int64_t fitting = room < fixed + row ? 1 : static_cast<int64_t>((room - fixed) / row);
    rows_per_pass = static_cast<int>(
        gpu::smaller<int64_t>(gpu::smaller<int64_t>(kTailRows<kTensor>, fitting), most_rows));
    bytes = fixed + rows_per_pass * row;
  }
  unsigned blocks(int num_layers) const {
    return static_cast<unsigned>(
        gpu::smaller<int64_t>(gpu::num_multiprocessors(), num_layers * widest));
  }
};

template <typename T, int kMaxLayers>
gpu::TailLayers<T, kMaxLayers> collect(const ClsTailCudaParams<T>* layers, int num_layers,
                                       int rows_per_pass) {
  gpu::TailLayers<T, kMaxLayers> result{};
  for (int i = 0; i < num_layers; ++i) result.layer[i] = layers[i];
  result.num_layers = num_layers;
  result.rows_per_pass = rows_per_pass;
  return result;
}

template <typename T, bool kTensor, int kVector>
int launch_chain(const ClsTailCudaParams<T>& p, CUstream_st* stream) {
  const TailPlan<T, kTensor, kVector> plan(&p, 1);
  const auto layers = collect<T, 1>(&p, 1, plan.rows_per_pass);
  const auto next = [&](const char* name, auto kernel) {
    return gpu::launch({name, dim3(plan.blocks(1)), dim3(kTailThreads), plan.bytes, stream}, kernel,
                       layers);
  };
  if (const int status =
          next("cls_tail (attention)", step_kernel<T, kTensor, kVector, TailStep::kAttn>))
    return status;
  if (const int status = next("cls_tail (up)", step_kernel<T, kTensor, kVector, TailStep::kUp>))
    return status;
  if (const int status = next("cls_tail (down)", step_kernel<T, kTensor, kVector, TailStep::kDown>))
    return status;
  return next("cls_tail (norm)", step_kernel<T, kTensor, kVector, TailStep::kNorm>);
}

template <typename T, bool kTensor, int kVector>
int launch(const ClsTailCudaParams<T>* layers, int num_layers, CUstream_st* stream,
           ClsTailLaunch how) {
  const TailPlan<T, kTensor, kVector> plan(layers, num_layers);
  // With many rows the products outweigh the launches that a persistent grid saves.
  const bool few_rows = plan.most_rows <= 4 * kTailRows<kTensor>;
  if (how == ClsTailLaunch::kPersistent || (how == ClsTailLaunch::kAutomatic && few_rows)) {
    const unsigned blocks = plan.blocks(num_layers);
    const auto persistent = [&](auto kernel, const auto& group, bool* fits) {
      *fits =
          gpu::max_resident_blocks(kernel, kTailThreads, plan.bytes) >= static_cast<int>(blocks);
      if (!*fits) return 0;
      return gpu::launch({"cls_tail", dim3(blocks), dim3(kTailThreads), plan.bytes, stream, true},
                         kernel, group);
    };
    bool fits;
    const int status =
        num_layers == 1
            ? persistent(persistent_kernel<T, kTensor, kVector, 1>,
                         collect<T, 1>(layers, 1, plan.rows_per_pass), &fits)
            : persistent(persistent_kernel<T, kTensor, kVector, kMaxTailLayers>,
                         collect<T, kMaxTailLayers>(layers, num_layers, plan.rows_per_pass), &fits);
    if (fits) return status;
  }
  for (int i = 0; i < num_layers; ++i) {
    if (const int status = launch_chain<T, kTensor, kVector>(layers[i], stream)) return status;
  }
  return 0;
}

template <typename T>
bool aligned(const ClsTailCudaParams<T>& p) {
  constexpr int kVector = 16 / sizeof(T);
  return p.hidden % kVector == 0 && p.inner_features % kVector == 0 && gpu::aligned_to<16>(p.ctx) &&
         gpu::aligned_to<16>(p.inner) && gpu::aligned_to<16>(p.attn.weight) &&
         gpu::aligned_to<16>(p.up.weight) && gpu::aligned_to<16>(p.down.weight);
}

}  // namespace

template <typename T>
int cls_tail_cuda(const ClsTailCudaParams<T>* layers, int64_t num_layers, CUstream_st* stream,
                  ClsTailLaunch how) {
  constexpr int kVector = 16 / sizeof(T);
  ClsTailCudaParams<T> group[kMaxTailLayers];
  for (int64_t next = 0; next < num_layers;) {
    int size = 0;
    bool vectors = true;
    for (; next < num_layers && size < kMaxTailLayers; ++next) {
      const ClsTailCudaParams<T>& p = layers[next];
      if (p.num_tasks == 0 || p.num_rows == 0 || p.hidden == 0) continue;
      vectors = vectors && aligned(p);
      group[size++] = p;
    }
    if (size == 0) return 0;
    int status;
    if (!vectors) {
      status = launch<T, false, 1>(group, size, stream, how);
    } else if constexpr (std::is_same_v<T, float>) {
      status = launch<T, false, kVector>(group, size, stream, how);
    } else {
      status = launch<T, true, kVector>(group, size, stream, how);
    }
    if (status) return status;
  }
  return 0;
}

template int cls_tail_cuda(const ClsTailCudaParams<float>*, int64_t, CUstream_st*, ClsTailLaunch);
template int cls_tail_cuda(const ClsTailCudaParams<Half>*, int64_t, CUstream_st*, ClsTailLaunch);
template int cls_tail_cuda(const ClsTailCudaParams<BFloat16>*, int64_t, CUstream_st*,
                           ClsTailLaunch);

}  // namespace lets

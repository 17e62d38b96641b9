// Tensor side of cls_tail: check, allocate, dispatch, register.
#include "kernels/cls_tail.h"

#include <torch/csrc/stable/library.h>

#include <optional>
#include <vector>

#include "torch/on_cpu.h"
#include "torch/parallel.h"
#include "torch/tail_layer.h"
#ifdef USE_CUDA
#include "kernels/cls_tail_cuda.h"
#include "torch/cuda.h"
#endif

namespace lets {
namespace {

constexpr const char* kOp = "cls_tail";
using OptionalTensor = std::optional<Tensor>;

struct Cpu : OnCpu {
  template <typename T>
  static void run(const std::vector<TailLayer>& layers) {
    for (const TailLayer& layer : layers) run_layer(layer.call<T>(), layer.ctx, layer.workspace);
  }

 private:
  template <typename T>
  static void run_layer(const TailCall<T>& c, const Tensor& ctx, const Tensor& workspace) {
    using A = Accumulator<T>;
    const int64_t rows = c.tasks * c.rows, size = rows * padded_row(c.hidden);
    A* buffer = mutable_data<A>(workspace);
    const ClsTailParams<T> p{c.residual,
                             c.residual_stride,
                             c.attn,
                             c.up,
                             c.down,
                             c.attn_norm_weight,
                             c.attn_norm_bias,
                             c.norm_weight,
                             c.norm_bias,
                             c.out,
                             buffer,
                             buffer + size,
                             buffer + 2 * size,
                             buffer + 3 * size,
                             c.tasks,
                             c.rows,
                             c.hidden,
                             c.inner,
                             c.eps};
    with_isa([&](auto isa) {
      pad_rows<isa()>(const_data<T>(ctx), rows, c.hidden, p.input);
      const auto phase = [&](TailPhase which, int64_t size, int64_t step) {
        parallel_chunks((size + step - 1) / step, [&](int64_t chunk) {
          const int64_t begin = chunk * step, end = begin + step < size ? begin + step : size;
          cls_tail_cpu<isa(), T>(p, which, begin, end);
        });
      };
      phase(TailPhase::kAttnOut, p.hidden, kTailPanel);
      phase(TailPhase::kAttnNorm, rows, rows_per_chunk(p.hidden));
      phase(TailPhase::kUp, p.inner_features, kTailPanel);
      phase(TailPhase::kDown, p.hidden, kTailPanel);
      phase(TailPhase::kNorm, rows, rows_per_chunk(p.hidden));
    });
  }
};

#ifdef USE_CUDA
struct Cuda : OnCuda {
  template <typename T>
  static void run(const std::vector<TailLayer>& layers) {
    std::vector<ClsTailCudaParams<T>> params;
    params.reserve(layers.size());
    for (const TailLayer& layer : layers) params.push_back(layer_params<T>(layer));
    const CudaScope scope(kOp, layers[0].ctx);
    scope.check(cls_tail_cuda(params.data(), static_cast<int64_t>(params.size()), scope.stream()));
  }

 private:
  template <typename T>
  static ClsTailCudaParams<T> layer_params(const TailLayer& layer) {
    const TailCall<T> c = layer.call<T>();
    const int64_t size = c.tasks * c.rows * c.hidden;
    float* buffer = mutable_data<float>(layer.workspace);
    return {const_data<T>(layer.ctx),
            c.residual,
            c.residual_stride,
            c.attn,
            c.up,
            c.down,
            c.attn_norm_weight,
            c.attn_norm_bias,
            c.norm_weight,
            c.norm_bias,
            c.out,
            buffer,
            buffer + size,
            reinterpret_cast<T*>(buffer + 3 * size),
            buffer + 2 * size,
            c.tasks,
            c.rows,
            c.hidden,
            c.inner,
            c.eps};
  }
};
#endif

template <typename Device>
void run(const std::vector<TailLayer>& layers) {
  Device::with_dtype(kOp, layers[0].ctx,
                     [&](auto element) { Device::template run<decltype(element)>(layers); });
}

template <typename Device>
Tensor cls_tail(const Tensor& ctx, const Tensor& residual, const Tensor& out_weight,
                const Tensor& up_weight, const Tensor& down_weight, const Tensor& out_bias,
                const Tensor& attn_norm_weight, const Tensor& attn_norm_bias, const Tensor& up_bias,
                const Tensor& down_bias, const Tensor& norm_weight, const Tensor& norm_bias,
                const OptionalTensor& out_values, const OptionalTensor& out_crow,
                const OptionalTensor& out_col, const OptionalTensor&, const OptionalTensor&,
                const OptionalTensor&, const OptionalTensor& up_values,
                const OptionalTensor& up_crow, const OptionalTensor& up_col, const OptionalTensor&,
                const OptionalTensor&, const OptionalTensor&, const OptionalTensor& down_values,
                const OptionalTensor& down_crow, const OptionalTensor& down_col,
                const OptionalTensor&, const OptionalTensor&, const OptionalTensor&, double eps) {
  Device::check_devices(kOp, "ctx", ctx, residual, out_weight, up_weight, down_weight, out_bias,
                        attn_norm_weight, attn_norm_bias, up_bias, down_bias, norm_weight,
                        norm_bias, out_values, out_crow, out_col, up_values, up_crow, up_col,
                        down_values, down_crow, down_col);
  const std::vector<TailLayer> layers{TailLayer(kOp,
                                                {ctx,
                                                 residual,
                                                 out_weight,
                                                 up_weight,
                                                 down_weight,
                                                 out_bias,
                                                 attn_norm_weight,
                                                 attn_norm_bias,
                                                 up_bias,
                                                 down_bias,
                                                 norm_weight,
                                                 norm_bias,
                                                 {out_values, out_crow, out_col},
                                                 {up_values, up_crow, up_col},
                                                 {down_values, down_crow, down_col}},
                                                eps)};
  run<Device>(layers);
  return layers[0].out;
}

constexpr size_t kWeights = 3, kVectors = 7, kDeltas = 9;  // tensors of a layer

template <typename Device>
std::vector<Tensor> cls_tail_layers(const std::vector<Tensor>& ctx,
                                    const std::vector<Tensor>& residual,
                                    const std::vector<Tensor>& weights,
                                    const std::vector<Tensor>& vectors,
                                    const std::vector<Tensor>& deltas, double eps) {
  constexpr const char* op = "cls_tail_layers";
  const size_t n = ctx.size();
  STD_TORCH_CHECK(n > 0 && residual.size() == n && weights.size() == kWeights * n &&
                      vectors.size() == kVectors * n && deltas.size() == kDeltas * n,
                  op, ": the lists must have 1, 1, 3, 7 and 9 tensors per layer, got ", n, ", ",
                  residual.size(), ", ", weights.size(), ", ", vectors.size(), " and ",
                  deltas.size());
  for (const auto* list : {&ctx, &residual, &weights, &vectors, &deltas}) {
    for (const Tensor& t : *list) Device::check_devices(op, "ctx", ctx[0], t);
  }
  std::vector<TailLayer> layers;
  std::vector<Tensor> results;
  for (size_t i = 0; i < n; ++i) {
    const Tensor *w = &weights[kWeights * i], *v = &vectors[kVectors * i];
    TailInputs in{ctx[i], residual[i], w[0], w[1], w[2], v[0], v[1], v[2],
                  v[3],   v[4],        v[5], v[6], {},   {},   {}};
    for (size_t j = 0; j < kDeltas; ++j) {
      const Tensor* delta = &deltas[kDeltas * i + j / 3 * 3];
      auto& place = j < 3 ? in.out_delta : j < 6 ? in.up_delta : in.down_delta;
      if (delta[1].numel() > 0) place[j % 3] = delta[j % 3];  // no offsets: no delta
    }
    layers.emplace_back(op, in, eps);
    check_dtype(op, "ctx of every layer", ctx[i], "the first", ctx[0]);
    STD_TORCH_CHECK(layers[i].hidden == layers[0].hidden && layers[i].inner == layers[0].inner, op,
                    ": layers must have one hidden and one inner size, got ", layers[i].hidden,
                    " and ", layers[i].inner, " beside ", layers[0].hidden, " and ",
                    layers[0].inner);
    results.push_back(layers[i].out);
  }
  run<Device>(layers);
  return results;
}

}  // namespace
}  // namespace lets

STABLE_TORCH_LIBRARY_IMPL(lets_ext, CPU, m) {
  m.impl("cls_tail", TORCH_BOX(&lets::cls_tail<lets::Cpu>));
  m.impl("cls_tail_layers", TORCH_BOX(&lets::cls_tail_layers<lets::Cpu>));
}
#ifdef USE_CUDA
STABLE_TORCH_LIBRARY_IMPL(lets_ext, CUDA, m) {
  m.impl("cls_tail", TORCH_BOX(&lets::cls_tail<lets::Cuda>));
  m.impl("cls_tail_layers", TORCH_BOX(&lets::cls_tail_layers<lets::Cuda>));
}
#endif

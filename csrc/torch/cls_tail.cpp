// Tensor side of cls_tail: check, allocate, dispatch, register.
#include "kernels/cls_tail.h"

#include <torch/csrc/stable/library.h>

#include <optional>

#include "torch/delta_linear_common.h"
#include "torch/on_cpu.h"
#include "torch/parallel.h"
#include "torch/task_vectors.h"
#ifdef USE_CUDA
#include "kernels/cls_tail_cuda.h"
#include "torch/cuda.h"
#endif

namespace lets {
namespace {

constexpr const char* kOp = "cls_tail";
using OptionalTensor = std::optional<Tensor>;

// Checked tensors of one linear layer.
struct Linear {
  Tensor weight, bias;
  OptionalTensor crow, col, values;

  Linear(const char* weight_name, const char* bias_name, const Tensor& ctx, int64_t out_features,
         int64_t in_features, const Tensor& weight_in, const Tensor& bias_in,
         const OptionalTensor& crow_in, const OptionalTensor& col_in,
         const OptionalTensor& values_in)
      : weight(weight_in), bias(bias_in), crow(crow_in), col(col_in) {
    STD_TORCH_CHECK(
        weight.dim() == 2 && weight.size(0) == out_features && weight.size(1) == in_features, kOp,
        ": ", weight_name, " must have shape [", out_features, ", ", in_features, "], got ",
        shape_string(weight));
    check_dtype(kOp, weight_name, weight, "ctx", ctx);
    weight = torch::stable::contiguous(weight);
    bias = check_task_vector(kOp, bias_name, bias_in, "ctx", ctx, ctx.size(0), out_features);
    STD_TORCH_CHECK(
        crow.has_value() == col.has_value() && crow.has_value() == values_in.has_value(), kOp,
        ": crow_indices, col_indices and values of a delta must come together");
    if (crow)
      values =
          check_csr(kOp, *crow, *col, *values_in, ctx, ctx.size(0) * out_features, in_features);
  }

  template <typename T>
  TailLinear<T> params() const {
    return {const_data<T>(weight),
            {const_data<T>(bias), task_stride(bias)},
            crow ? const_data<int32_t>(*crow) : nullptr,
            crow ? const_data<int32_t>(*col) : nullptr,
            crow ? const_data<T>(*values) : nullptr,
            weight.size(0),
            weight.size(1)};
  }
};

// What run() gets: the parameters of both devices but for ctx and workspace.
template <typename T>
struct Call {
  const T* residual;
  int64_t residual_stride;
  TailLinear<T> attn, up, down;
  TaskVector<T> attn_norm_weight, attn_norm_bias, norm_weight, norm_bias;
  T* out;
  int64_t tasks, rows, hidden, inner;
  double eps;
};

struct Cpu : OnCpu {
  template <typename T>
  static void run(const Call<T>& c, const Tensor& ctx, Tensor& workspace) {
    using A = Accumulator<T>;
    const int64_t rows = c.tasks * c.rows, size = rows * c.hidden;
    const A* input = widened<T>(ctx, workspace);
    A* buffer = mutable_data<A>(workspace) + size;
    const ClsTailParams<T> p{input,
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
                             buffer + 2 * size,
                             c.tasks,
                             c.rows,
                             c.hidden,
                             c.inner,
                             c.eps};
    with_isa([&](auto isa) {
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

 private:
  // ctx in the accumulator's type.
  template <typename T>
  static const Accumulator<T>* widened(const Tensor& ctx, Tensor& buffer) {
    if constexpr (std::is_same_v<T, Accumulator<T>>) {
      return const_data<T>(ctx);
    } else {
      auto* out = mutable_data<Accumulator<T>>(buffer);
      with_isa([&](auto isa) { widen_rows<isa()>(const_data<T>(ctx), ctx.numel(), out); });
      return out;
    }
  }
};

#ifdef USE_CUDA
struct Cuda : OnCuda {
  template <typename T>
  static void run(const Call<T>& c, const Tensor& ctx, Tensor& workspace) {
    const int64_t size = c.tasks * c.rows * c.hidden;
    float* buffer = mutable_data<float>(workspace);
    const ClsTailCudaParams<T> p{const_data<T>(ctx),
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
    const CudaScope scope(kOp, ctx);
    scope.check(cls_tail_cuda(p, scope.stream()));
  }
};
#endif

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
  check_eps(kOp, eps);
  const Tensor ctx_c = check_activations(kOp, "ctx", ctx);
  const Tensor residual_c = check_shared(kOp, "residual", residual, "ctx", ctx);
  const int64_t tasks = ctx.size(0), rows = ctx.size(1), hidden = ctx.size(2);
  STD_TORCH_CHECK(up_weight.dim() == 2, kOp, ": up_weight must have shape [F, ", hidden, "], got ",
                  shape_string(up_weight));
  const int64_t inner = up_weight.size(0);
  const Linear attn("out_weight", "out_bias", ctx, hidden, hidden, out_weight, out_bias, out_crow,
                    out_col, out_values);
  const Linear up("up_weight", "up_bias", ctx, inner, hidden, up_weight, up_bias, up_crow, up_col,
                  up_values);
  const Linear down("down_weight", "down_bias", ctx, hidden, inner, down_weight, down_bias,
                    down_crow, down_col, down_values);
  const auto vector = [&](const char* name, const Tensor& t) {
    return check_task_vector(kOp, name, t, "ctx", ctx, tasks, hidden);
  };
  const Tensor vectors[] = {vector("attn_norm_weight", attn_norm_weight),
                            vector("attn_norm_bias", attn_norm_bias),
                            vector("norm_weight", norm_weight), vector("norm_bias", norm_bias)};

  const bool wide = ctx.scalar_type() == ScalarType::Double;
  Tensor out = torch::stable::new_empty(ctx, {tasks, rows, hidden});
  Tensor workspace = torch::stable::new_empty(ctx, {tasks * rows, 3 * hidden + inner},
                                              wide ? ScalarType::Double : ScalarType::Float);
  Device::with_dtype(kOp, ctx, [&](auto element) {
    using T = decltype(element);
    const auto view = [&](int i) {
      return TaskVector<T>{const_data<T>(vectors[i]), task_stride(vectors[i])};
    };
    Device::run(Call<T>{const_data<T>(residual_c), task_stride(residual_c), attn.params<T>(),
                        up.params<T>(), down.params<T>(), view(0), view(1), view(2), view(3),
                        mutable_data<T>(out), tasks, rows, hidden, inner, eps},
                ctx_c, workspace);
  });
  return out;
}

}  // namespace
}  // namespace lets

STABLE_TORCH_LIBRARY_IMPL(lets_ext, CPU, m) {
  m.impl("cls_tail", TORCH_BOX(&lets::cls_tail<lets::Cpu>));
}
#ifdef USE_CUDA
STABLE_TORCH_LIBRARY_IMPL(lets_ext, CUDA, m) {
  m.impl("cls_tail", TORCH_BOX(&lets::cls_tail<lets::Cuda>));
}
#endif

// Tensor side of add_layer_norm: check, allocate, dispatch, register.
#include "kernels/add_layer_norm.h"

#include <torch/csrc/stable/library.h>

#include <optional>
#include <tuple>

#include "torch/parallel.h"
#include "torch/task_vectors.h"

namespace lets {
namespace {

constexpr const char* kOp = "add_layer_norm";

std::tuple<Tensor, Tensor, Tensor> add_layer_norm(const Tensor& x, const Tensor& residual,
                                                  const Tensor& weight, const Tensor& norm_bias,
                                                  const std::optional<Tensor>& bias, double eps) {
  const Tensor x_c = check_activations(kOp, "x", x);
  const int64_t tasks = x.size(0), tokens = x.size(1), hidden = x.size(2), rows = tasks * tokens;
  const auto vector = [&](const char* name, const Tensor& t) {
    return check_task_vector(kOp, name, t, "x", x, tasks, hidden);
  };
  const Tensor residual_c = check_shared(kOp, "residual", residual, "x", x);
  const Tensor weight_c = vector("weight", weight), norm_bias_c = vector("norm_bias", norm_bias);
  const Tensor bias_c = bias ? vector("bias", *bias) : weight_c;

  const bool wide = x.scalar_type() == ScalarType::Double;
  const ScalarType moments = wide ? ScalarType::Double : ScalarType::Float;
  Tensor out = torch::stable::new_empty(x, {tasks, tokens, hidden});
  Tensor mean = torch::stable::new_empty(x, {tasks, tokens}, moments);
  Tensor rstd = torch::stable::new_empty(x, {tasks, tokens}, moments);
  const int64_t step = rows_per_chunk(hidden);
  with_dtype(kOp, x, [&](auto element) {
    using T = decltype(element);
    using A = Accumulator<T>;
    const AddLayerNormParams<T> p{const_data<T>(x_c),
                                  const_data<T>(residual_c),
                                  bias ? const_data<T>(bias_c) : nullptr,
                                  const_data<T>(weight_c),
                                  const_data<T>(norm_bias_c),
                                  mutable_data<T>(out),
                                  mutable_data<A>(mean),
                                  mutable_data<A>(rstd),
                                  tokens,
                                  hidden,
                                  task_stride(residual_c),
                                  task_stride(bias_c),
                                  task_stride(weight_c),
                                  task_stride(norm_bias_c),
                                  eps};
    with_isa([&](auto isa) {
      parallel_chunks((rows + step - 1) / step, [&](int64_t chunk) {
        const int64_t begin = chunk * step, end = begin + step < rows ? begin + step : rows;
        auto* scratch = static_cast<A*>(thread_scratch(hidden * sizeof(A)));
        add_layer_norm_cpu<isa()>(p, begin, end, scratch);
      });
    });
  });
  return {out, mean, rstd};
}

}  // namespace
}  // namespace lets

STABLE_TORCH_LIBRARY_IMPL(lets_ext, CPU, m) {
  m.impl("add_layer_norm", TORCH_BOX(&lets::add_layer_norm));
}

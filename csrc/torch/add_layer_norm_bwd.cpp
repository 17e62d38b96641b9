// Tensor side of add_layer_norm's gradients: check, allocate, dispatch, register.
#include "kernels/add_layer_norm_bwd.h"

#include <torch/csrc/stable/library.h>

#include <optional>
#include <tuple>

#include "torch/on_cpu.h"
#include "torch/parallel.h"
#include "torch/task_vectors.h"
#ifdef USE_CUDA
#include "kernels/epilogues_cuda.h"
#include "torch/cuda.h"
#endif

namespace lets {
namespace {

constexpr const char* kOp = "add_layer_norm_bwd";

struct Cpu : OnCpu {
  template <typename T>
  static void run(const AddLayerNormBwdParams<T>& p, const Tensor&) {
    with_isa([&](auto isa) {
      parallel_chunks(num_splits(p.num_tokens) * p.num_tasks, [&](int64_t chunk) {
        auto* scratch = thread_scratch(2 * p.hidden * sizeof(Accumulator<T>));
        add_layer_norm_bwd_cpu<isa()>(p, chunk, static_cast<Accumulator<T>*>(scratch));
      });
    });
  }
};

#ifdef USE_CUDA
struct Cuda : OnCuda {
  template <typename T>
  static void run(const AddLayerNormBwdParams<T>& p, const Tensor& x) {
    const CudaScope scope(kOp, x);
    scope.check(add_layer_norm_bwd_cuda(p, scope.stream()));
  }
};
#endif

// [T, N] in the accumulator's type, as the forward op returns them.
Tensor check_moments(const char* name, const Tensor& t, const Tensor& x) {
  STD_TORCH_CHECK(t.dim() == 2 && t.size(0) == x.size(0) && t.size(1) == x.size(1) &&
                      t.scalar_type() == accumulator_dtype(x),
                  kOp, ": ", name, " must be what add_layer_norm returned for x, got shape ",
                  shape_string(t), " of ", dtype_name(t));
  return torch::stable::contiguous(t);
}

template <typename Device>
std::tuple<Tensor, Tensor> add_layer_norm_bwd(const Tensor& grad, const Tensor& x,
                                              const Tensor& residual, const Tensor& weight,
                                              const std::optional<Tensor>& bias, const Tensor& mean,
                                              const Tensor& rstd) {
  Device::check_devices(kOp, "x", x, grad, residual, weight, bias, mean, rstd);
  const Tensor x_c = check_activations(kOp, "x", x);
  const int64_t tasks = x.size(0), tokens = x.size(1), hidden = x.size(2);
  const Tensor grad_c = check_same(kOp, "grad", grad, "x", x);
  const Tensor residual_c = check_shared(kOp, "residual", residual, "x", x);
  const Tensor weight_c = check_task_vector(kOp, "weight", weight, "x", x, tasks, hidden);
  const Tensor bias_c =
      bias ? check_task_vector(kOp, "bias", *bias, "x", x, tasks, hidden) : weight_c;
  const Tensor mean_c = check_moments("mean", mean, x), rstd_c = check_moments("rstd", rstd, x);
  Tensor grad_x = torch::stable::new_empty(x, {tasks, tokens, hidden});
  Tensor sums =
      torch::stable::new_empty(x, {3, num_splits(tokens), tasks, hidden}, accumulator_dtype(x));
  Device::with_dtype(kOp, x, [&](auto element) {
    using T = decltype(element);
    using A = Accumulator<T>;
    Device::run(
        AddLayerNormBwdParams<T>{
            const_data<T>(grad_c), const_data<T>(x_c), const_data<T>(residual_c),
            bias ? const_data<T>(bias_c) : nullptr, const_data<T>(weight_c), const_data<A>(mean_c),
            const_data<A>(rstd_c), mutable_data<T>(grad_x), mutable_data<A>(sums), tasks, tokens,
            hidden, task_stride(residual_c), task_stride(bias_c), task_stride(weight_c)},
        x);
  });
  return {grad_x, sums};
}

}  // namespace
}  // namespace lets

STABLE_TORCH_LIBRARY_IMPL(lets_ext, CPU, m) {
  m.impl("add_layer_norm_bwd", TORCH_BOX(&lets::add_layer_norm_bwd<lets::Cpu>));
}
#ifdef USE_CUDA
STABLE_TORCH_LIBRARY_IMPL(lets_ext, CUDA, m) {
  m.impl("add_layer_norm_bwd", TORCH_BOX(&lets::add_layer_norm_bwd<lets::Cuda>));
}
#endif

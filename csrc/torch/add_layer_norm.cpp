// Tensor side of add_layer_norm: check, allocate, dispatch, register.
#include "kernels/add_layer_norm.h"

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

constexpr const char* kOp = "add_layer_norm";

struct Cpu : OnCpu {
  template <typename T>
  static void run(const AddLayerNormParams<T>& p, int64_t tasks, const Tensor&) {
    const int64_t rows = tasks * p.num_tokens, step = rows_per_chunk(p.hidden);
    with_isa([&](auto isa) {
      parallel_chunks((rows + step - 1) / step, [&](int64_t chunk) {
        const int64_t begin = chunk * step, end = begin + step < rows ? begin + step : rows;
        auto* scratch = thread_scratch(p.hidden * sizeof(Accumulator<T>));
        add_layer_norm_cpu<isa()>(p, begin, end, static_cast<Accumulator<T>*>(scratch));
      });
    });
  }
};

#ifdef USE_CUDA
struct Cuda : OnCuda {
  template <typename T>
  static void run(const AddLayerNormParams<T>& p, int64_t tasks, const Tensor& x) {
    const CudaScope scope(kOp, x);
    scope.check(add_layer_norm_cuda(p, tasks, scope.stream()));
  }
};
#endif

template <typename Device>
std::tuple<Tensor, Tensor, Tensor> add_layer_norm(const Tensor& x, const Tensor& residual,
                                                  const Tensor& weight, const Tensor& norm_bias,
                                                  const std::optional<Tensor>& bias, double eps) {
  Device::check_devices(kOp, "x", x, residual, weight, norm_bias, bias);
  check_eps(kOp, eps);
  const Tensor x_c = check_activations(kOp, "x", x);
  const int64_t tasks = x.size(0), tokens = x.size(1), hidden = x.size(2);
  const auto vector = [&](const char* name, const Tensor& t) {
    return check_task_vector(kOp, name, t, "x", x, tasks, hidden);
  };
  const Tensor residual_c = check_shared(kOp, "residual", residual, "x", x);
  const Tensor weight_c = vector("weight", weight), norm_bias_c = vector("norm_bias", norm_bias);
  const Tensor bias_c = bias ? vector("bias", *bias) : weight_c;

  Tensor out = torch::stable::new_empty(x, {tasks, tokens, hidden});
  Tensor mean = torch::stable::new_empty(x, {tasks, tokens}, accumulator_dtype(x));
  Tensor rstd = torch::stable::new_empty(x, {tasks, tokens}, accumulator_dtype(x));
  Device::with_dtype(kOp, x, [&](auto element) {
    using T = decltype(element);
    using A = Accumulator<T>;
    Device::run(
        AddLayerNormParams<T>{
            const_data<T>(x_c), const_data<T>(residual_c), bias ? const_data<T>(bias_c) : nullptr,
            const_data<T>(weight_c), const_data<T>(norm_bias_c), mutable_data<T>(out),
            mutable_data<A>(mean), mutable_data<A>(rstd), tokens, hidden, task_stride(residual_c),
            task_stride(bias_c), task_stride(weight_c), task_stride(norm_bias_c), eps},
        tasks, x);
  });
  return {out, mean, rstd};
}

}  // namespace
}  // namespace lets

STABLE_TORCH_LIBRARY_IMPL(lets_ext, CPU, m) {
  m.impl("add_layer_norm", TORCH_BOX(&lets::add_layer_norm<lets::Cpu>));
}
#ifdef USE_CUDA
STABLE_TORCH_LIBRARY_IMPL(lets_ext, CUDA, m) {
  m.impl("add_layer_norm", TORCH_BOX(&lets::add_layer_norm<lets::Cuda>));
}
#endif

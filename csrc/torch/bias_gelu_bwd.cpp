// Tensor side of bias_gelu's gradients: check, allocate, dispatch, register.
#include "kernels/bias_gelu_bwd.h"

#include <torch/csrc/stable/library.h>

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

constexpr const char* kOp = "bias_gelu_bwd";

struct Cpu : OnCpu {
  template <typename T>
  static void run(const BiasGeluBwdParams<T>& p, const Tensor&) {
    with_isa([&](auto isa) {
      parallel_chunks(num_splits(p.num_tokens) * p.num_tasks,
                      [&](int64_t chunk) { bias_gelu_bwd_cpu<isa()>(p, chunk); });
    });
  }
};

#ifdef USE_CUDA
struct Cuda : OnCuda {
  template <typename T>
  static void run(const BiasGeluBwdParams<T>& p, const Tensor& x) {
    const CudaScope scope(kOp, x);
    scope.check(bias_gelu_bwd_cuda(p, scope.stream()));
  }
};
#endif

template <typename Device>
std::tuple<Tensor, Tensor> bias_gelu_bwd(const Tensor& grad, const Tensor& x, const Tensor& bias) {
  Device::check_devices(kOp, "x", x, grad, bias);
  const Tensor x_c = check_activations(kOp, "x", x);
  const int64_t tasks = x.size(0), tokens = x.size(1), features = x.size(2);
  const Tensor grad_c = check_same(kOp, "grad", grad, "x", x);
  const Tensor bias_c = check_task_vector(kOp, "bias", bias, "x", x, tasks, features);
  Tensor grad_x = torch::stable::new_empty(x, {tasks, tokens, features});
  Tensor grad_bias =
      torch::stable::new_empty(x, {num_splits(tokens), tasks, features}, accumulator_dtype(x));
  Device::with_dtype(kOp, x, [&](auto element) {
    using T = decltype(element);
    Device::run(
        BiasGeluBwdParams<T>{const_data<T>(grad_c), const_data<T>(x_c), const_data<T>(bias_c),
                             mutable_data<T>(grad_x), mutable_data<Accumulator<T>>(grad_bias),
                             tasks, tokens, features, task_stride(bias_c)},
        x);
  });
  return {grad_x, grad_bias};
}

}  // namespace
}  // namespace lets

STABLE_TORCH_LIBRARY_IMPL(lets_ext, CPU, m) {
  m.impl("bias_gelu_bwd", TORCH_BOX(&lets::bias_gelu_bwd<lets::Cpu>));
}
#ifdef USE_CUDA
STABLE_TORCH_LIBRARY_IMPL(lets_ext, CUDA, m) {
  m.impl("bias_gelu_bwd", TORCH_BOX(&lets::bias_gelu_bwd<lets::Cuda>));
}
#endif

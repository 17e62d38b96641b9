// Tensor side of bias_gelu: check, allocate, dispatch, register.
#include "kernels/bias_gelu.h"

#include <torch/csrc/stable/library.h>

#include "torch/on_cpu.h"
#include "torch/parallel.h"
#include "torch/task_vectors.h"
#ifdef USE_CUDA
#include "kernels/epilogues_cuda.h"
#include "torch/cuda.h"
#endif

namespace lets {
namespace {

constexpr const char* kOp = "bias_gelu";

struct Cpu : OnCpu {
  template <typename T>
  static void run(const BiasGeluParams<T>& p, int64_t tasks, const Tensor&) {
    const int64_t rows = tasks * p.num_tokens, step = rows_per_chunk(p.features);
    with_isa([&](auto isa) {
      parallel_chunks((rows + step - 1) / step, [&](int64_t chunk) {
        const int64_t begin = chunk * step, end = begin + step < rows ? begin + step : rows;
        bias_gelu_cpu<isa()>(p, begin, end);
      });
    });
  }
};

#ifdef USE_CUDA
struct Cuda : OnCuda {
  template <typename T>
  static void run(const BiasGeluParams<T>& p, int64_t tasks, const Tensor& x) {
    const CudaScope scope(kOp, x);
    scope.check(bias_gelu_cuda(p, tasks, scope.stream()));
  }
};
#endif

template <typename Device>
Tensor bias_gelu(const Tensor& x, const Tensor& bias) {
  Device::check_devices(kOp, "x", x, bias);
  const Tensor x_c = check_activations(kOp, "x", x);
  const int64_t tokens = x.size(1), features = x.size(2);
  const Tensor bias_c = check_task_vector(kOp, "bias", bias, "x", x, x.size(0), features);
  Tensor out = torch::stable::new_empty(x, {x.size(0), tokens, features});
  Device::with_dtype(kOp, x, [&](auto element) {
    using T = decltype(element);
    Device::run(BiasGeluParams<T>{const_data<T>(x_c), const_data<T>(bias_c), mutable_data<T>(out),
                                  tokens, features, task_stride(bias_c)},
                x.size(0), x);
  });
  return out;
}

}  // namespace
}  // namespace lets

STABLE_TORCH_LIBRARY_IMPL(lets_ext, CPU, m) {
  m.impl("bias_gelu", TORCH_BOX(&lets::bias_gelu<lets::Cpu>));
}
#ifdef USE_CUDA
STABLE_TORCH_LIBRARY_IMPL(lets_ext, CUDA, m) {
  m.impl("bias_gelu", TORCH_BOX(&lets::bias_gelu<lets::Cuda>));
}
#endif

// Tensor side of bias_gelu: check, allocate, dispatch, register.
#include "kernels/bias_gelu.h"

#include <torch/csrc/stable/library.h>

#include "torch/parallel.h"
#include "torch/task_vectors.h"

namespace lets {
namespace {

constexpr const char* kOp = "bias_gelu";

Tensor bias_gelu(const Tensor& x, const Tensor& bias) {
  const Tensor x_c = check_activations(kOp, "x", x);
  const int64_t tokens = x.size(1), features = x.size(2), rows = x.size(0) * tokens;
  const Tensor bias_c = check_task_vector(kOp, "bias", bias, "x", x, x.size(0), features);
  Tensor out = torch::stable::new_empty(x, {x.size(0), tokens, features});
  const int64_t step = rows_per_chunk(features);
  with_dtype(kOp, x, [&](auto element) {
    using T = decltype(element);
    const BiasGeluParams<T> p{
        const_data<T>(x_c), const_data<T>(bias_c), mutable_data<T>(out), tokens,
        features,           task_stride(bias_c)};
    with_isa([&](auto isa) {
      parallel_chunks((rows + step - 1) / step, [&](int64_t chunk) {
        const int64_t begin = chunk * step, end = begin + step < rows ? begin + step : rows;
        bias_gelu_cpu<isa()>(p, begin, end);
      });
    });
  });
  return out;
}

}  // namespace
}  // namespace lets

STABLE_TORCH_LIBRARY_IMPL(lets_ext, CPU, m) { m.impl("bias_gelu", TORCH_BOX(&lets::bias_gelu)); }

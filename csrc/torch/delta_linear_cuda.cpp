// delta_linear and its gradients on CUDA tensors: check, allocate, launch, register.
#include "kernels/delta_linear_cuda.h"

#include <torch/csrc/stable/library.h>

#include <optional>

#include "torch/cuda.h"
#include "torch/delta_linear_common.h"

namespace lets {
namespace {

Tensor delta_linear(const Tensor& base, const Tensor& x, const Tensor& values, const Tensor& crow,
                    const Tensor& col, const Tensor& ccol, const Tensor& row,
                    const Tensor& permutation, int64_t num_tasks,
                    const std::optional<Tensor>& bias) {
  constexpr const char* op = "delta_linear";
  check_delta_linear(op, base, x, bias, num_tasks);
  const int64_t tokens = x.size(1), in = x.size(2), out_features = base.size(2);
  const Tensor v = check_csr(op, crow, col, values, x, num_tasks * out_features, in);
  OnCuda::check_devices(op, "x", x, base, values, crow, col, bias);
  const CudaScope scope(op, x);
  const Tensor base_c = unit_stride(base), x_c = unit_stride(x);
  const Tensor bias_c = bias ? torch::stable::contiguous(*bias) : x_c;
  Tensor out = torch::stable::new_empty(x, {num_tasks, tokens, out_features});
  OnCuda::with_dtype(op, x, [&](auto element) {
    using T = decltype(element);
    scope.check(delta_linear_cuda<T>({rows_view<T>(base_c), rows_view<T>(x_c),
                                      const_data<int32_t>(crow), const_data<int32_t>(col), nullptr,
                                      const_data<T>(v), bias ? const_data<T>(bias_c) : nullptr,
                                      mutable_data<T>(out), num_tasks, tokens, in, out_features},
                                     scope.stream()));
  });
  return out;
}

Tensor delta_linear_bwd_x(const Tensor& grad, const Tensor& values, const Tensor& ccol,
                          const Tensor& row, const Tensor& permutation, int64_t num_tasks,
                          int64_t in_features) {
  constexpr const char* op = "delta_linear_bwd_x";
  check_rows(op, "grad", grad, num_tasks);
  STD_TORCH_CHECK(in_features > 0, op, ": in_features must be positive, got ", in_features);
  check_elements(op, "the result", {num_tasks, grad.size(1), in_features});
  const Tensor v = check_csr(op, ccol, row, values, grad, num_tasks * in_features, grad.size(2));
  check_index(op, "permutation", permutation, values.size(0), "nnz");
  OnCuda::check_devices(op, "grad", grad, values, ccol, row, permutation);
  const CudaScope scope(op, grad);
  const Tensor grad_c = unit_stride(grad);
  Tensor out = torch::stable::new_empty(grad, {num_tasks, grad.size(1), in_features});
  OnCuda::with_dtype(op, grad, [&](auto element) {
    using T = decltype(element);
    DeltaLinearCudaParams<T> p{};
    p.x = rows_view<T>(grad_c);
    p.crow = const_data<int32_t>(ccol);
    p.col = const_data<int32_t>(row);
    p.permutation = const_data<int32_t>(permutation);
    p.values = const_data<T>(v);
    p.out = mutable_data<T>(out);
    p.num_tasks = num_tasks;
    p.num_tokens = grad.size(1);
    p.in_features = grad.size(2);
    p.out_features = in_features;
    scope.check(delta_linear_cuda<T>(p, scope.stream()));
  });
  return out;
}

Tensor delta_linear_bwd_values(const Tensor& grad, const Tensor& x, const Tensor& crow,
                               const Tensor& col, int64_t num_tasks) {
  constexpr const char* op = "delta_linear_bwd_values";
  check_rows(op, "grad", grad, num_tasks);
  check_rows(op, "x", x, num_tasks);
  check_dtype(op, "grad", grad, "x", x);
  OnCuda::check_devices(op, "x", x, grad, crow, col);
  const int64_t tokens = x.size(1), nnz = col.size(0);
  STD_TORCH_CHECK(grad.size(1) == tokens, op, ": grad must have the ", tokens, " rows of x, got ",
                  shape_string(grad));
  const CudaScope scope(op, x);
  Tensor out = torch::stable::new_empty(x, {nnz});
  check_csr(op, crow, col, out, x, num_tasks * grad.size(2), x.size(2));
  const Tensor grad_c = unit_stride(grad), x_c = unit_stride(x);
  Tensor partial = torch::stable::new_empty(x, {delta_linear_values_cuda_splits(tokens), nnz},
                                            ScalarType::Float);
  OnCuda::with_dtype(op, x, [&](auto element) {
    using T = decltype(element);
    scope.check(delta_linear_bwd_values_cuda<T>(
        {rows_view<T>(grad_c), rows_view<T>(x_c), const_data<int32_t>(crow),
         const_data<int32_t>(col), mutable_data<float>(partial), mutable_data<T>(out), num_tasks,
         tokens, x.size(2), grad.size(2), nnz},
        scope.stream()));
  });
  return out;
}

}  // namespace
}  // namespace lets

STABLE_TORCH_LIBRARY_IMPL(lets_ext, CUDA, m) {
  m.impl("delta_linear", TORCH_BOX(&lets::delta_linear));
  m.impl("delta_linear_bwd_x", TORCH_BOX(&lets::delta_linear_bwd_x));
  m.impl("delta_linear_bwd_values", TORCH_BOX(&lets::delta_linear_bwd_values));
}

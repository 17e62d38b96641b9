// Tensor side of delta_linear: check, allocate, dispatch, register.
#include "kernels/delta_linear.h"

#include <torch/csrc/stable/library.h>

#include <optional>

#include "checks.h"
#include "kernels/csr.h"
#include "torch/delta_linear_common.h"
#include "torch/parallel.h"

namespace lets {
namespace {

constexpr const char* kOp = "delta_linear";

template <typename T>
void run(DeltaLinearParams<T> p, const Tensor& values, const int32_t* permutation) {
  const int64_t nnz = values.size(0);
  // Values are needed in the accumulator's type and in the order of the rows.
  std::optional<Tensor> gathered;
  if (permutation || !std::is_same_v<T, Accumulator<T>>) {
    gathered = torch::stable::new_empty(values, {nnz}, accumulator_dtype(values));
    auto* out = mutable_data<Accumulator<T>>(*gathered);
    with_isa(
        [&](auto isa) { gather_values<isa(), T>(const_data<T>(values), permutation, nnz, out); });
    p.values = out;
  } else {
    p.values = const_data<Accumulator<T>>(values);
  }
  with_isa([&](auto isa) {
    const auto plan = delta_linear_plan<isa()>(p, nnz, torch::stable::get_num_threads());
    parallel_chunks(plan.num_chunks, [&](int64_t chunk) {
      delta_linear_cpu<isa(), T>(p, plan, chunk, thread_scratch(plan.scratch_bytes));
    });
  });
}

Tensor delta_linear(const Tensor& base, const Tensor& x, const Tensor& values, const Tensor& crow,
                    const Tensor& col, const Tensor& ccol, const Tensor& row,
                    const Tensor& permutation, int64_t num_tasks,
                    const std::optional<Tensor>& bias) {
  check_delta_linear(kOp, base, x, bias, num_tasks);
  const int64_t tokens = x.size(1), in = x.size(2), out_features = base.size(2);
  const Tensor v = check_csr(kOp, crow, col, values, x, num_tasks * out_features, in);
  const Tensor base_c = unit_stride(base), x_c = unit_stride(x);
  const Tensor bias_c = bias ? torch::stable::contiguous(*bias) : x_c;
  Tensor out = torch::stable::new_empty(x, {num_tasks, tokens, out_features});
  with_dtype(kOp, x, [&](auto element) {
    using T = decltype(element);
    run<T>({rows_view<T>(base_c), rows_view<T>(x_c), const_data<int32_t>(crow),
            const_data<int32_t>(col), nullptr, bias ? const_data<T>(bias_c) : nullptr,
            mutable_data<T>(out), num_tasks, tokens, in, out_features},
           v, nullptr);
  });
  return out;
}

// The gradient of x is the same product with the transposed deltas, on a base of zeros.
Tensor delta_linear_bwd_x(const Tensor& grad, const Tensor& values, const Tensor& ccol,
                          const Tensor& row, const Tensor& permutation, int64_t num_tasks,
                          int64_t in_features) {
  constexpr const char* op = "delta_linear_bwd_x";
  check_rows(op, "grad", grad, num_tasks);
  STD_TORCH_CHECK(in_features > 0, op, ": in_features must be positive, got ", in_features);
  check_elements(op, "the result", {num_tasks, grad.size(1), in_features});
  const int64_t tokens = grad.size(1), out_features = grad.size(2);
  const Tensor v = check_csr(op, ccol, row, values, grad, num_tasks * in_features, out_features);
  check_index(op, "permutation", permutation, values.size(0), "nnz");
  const bool valid = with_isa([&](auto isa) {
    return indices_in_range<isa()>(const_data<int32_t>(permutation), values.size(0),
                                   static_cast<int32_t>(values.size(0)));
  });
  STD_TORCH_CHECK(valid, op, ": permutation must be in [0, ", values.size(0), ") (nnz)");
  const Tensor grad_c = unit_stride(grad);
  Tensor out = torch::stable::new_empty(grad, {num_tasks, tokens, in_features});
  with_dtype(op, grad, [&](auto element) {
    using T = decltype(element);
    run<T>({{nullptr, 0, 0},
            rows_view<T>(grad_c),
            const_data<int32_t>(ccol),
            const_data<int32_t>(row),
            nullptr,
            nullptr,
            mutable_data<T>(out),
            num_tasks,
            tokens,
            out_features,
            in_features},
           v, const_data<int32_t>(permutation));
  });
  return out;
}

}  // namespace
}  // namespace lets

STABLE_TORCH_LIBRARY_IMPL(lets_ext, CPU, m) {
  m.impl("delta_linear", TORCH_BOX(&lets::delta_linear));
  m.impl("delta_linear_bwd_x", TORCH_BOX(&lets::delta_linear_bwd_x));
}

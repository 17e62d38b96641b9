#include <torch/csrc/stable/library.h>

#include "checks.h"
#include "kernels/delta_linear_bwd.h"
#include "torch/delta_linear_common.h"
#include "torch/parallel.h"

namespace lets {
namespace {

constexpr const char* kOp = "delta_linear_bwd_values";

Tensor delta_linear_bwd_values(const Tensor& grad, const Tensor& x, const Tensor& crow,
                               const Tensor& col, int64_t num_tasks) {
  check_rows(kOp, "grad", grad, num_tasks);
  check_rows(kOp, "x", x, num_tasks);
  check_dtype(kOp, "grad", grad, "x", x);
  const int64_t tokens = x.size(1), in = x.size(2), out_features = grad.size(2);
  STD_TORCH_CHECK(grad.size(1) == tokens, kOp, ": grad must have the ", tokens, " rows of x, got ",
                  shape_string(grad));
  STD_TORCH_CHECK(col.dim() == 1, kOp, ": col_indices must have shape [nnz], got ",
                  shape_string(col));
  Tensor out = torch::stable::new_empty(x, {col.size(0)});
  check_csr(kOp, crow, col, out, x, num_tasks * out_features, in);
  const Tensor grad_c = unit_stride(grad), x_c = unit_stride(x);
  with_dtype(kOp, x, [&](auto element) {
    using T = decltype(element);
    DeltaLinearValuesParams<T> p{rows_view<T>(grad_c),
                                 rows_view<T>(x_c),
                                 const_data<int32_t>(crow),
                                 const_data<int32_t>(col),
                                 nullptr,
                                 mutable_data<T>(out),
                                 num_tasks,
                                 tokens,
                                 in,
                                 out_features,
                                 col.size(0)};
    const auto plan = delta_linear_values_plan(p, torch::stable::get_num_threads());
    const Tensor partial =
        torch::stable::new_empty(x, {plan.num_splits, p.nnz}, accumulator_dtype(x));
    p.partial = mutable_data<Accumulator<T>>(partial);
    with_isa([&](auto isa) {
      parallel_chunks(plan.num_chunks, [&](int64_t chunk) {
        delta_linear_bwd_values_cpu<isa(), T>(p, plan, chunk, thread_scratch(plan.scratch_bytes));
      });
      delta_linear_reduce_values<isa(), T>(p, plan);
    });
  });
  return out;
}

}  // namespace
}  // namespace lets

STABLE_TORCH_LIBRARY_IMPL(lets_ext, CPU, m) {
  m.impl("delta_linear_bwd_values", TORCH_BOX(&lets::delta_linear_bwd_values));
}

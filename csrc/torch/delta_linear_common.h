// Checks and views that delta_linear and its gradients share.
#pragma once
#include <optional>

#include "checks.h"
#include "kernels/csr.h"
#include "kernels/delta_linear.h"

namespace lets {

inline void check_rows(const char* op, const char* name, const Tensor& t, int64_t num_tasks) {
  STD_TORCH_CHECK(num_tasks > 0, op, ": num_tasks must be positive, got ", num_tasks);
  STD_TORCH_CHECK(t.dim() == 3 && (t.size(0) == 1 || t.size(0) == num_tasks), op, ": ", name,
                  " must have shape [1 or ", num_tasks, ", rows, features], got ", shape_string(t));
  check_elements(op, name, t);
  check_elements(op, "the result", {num_tasks, t.size(1), t.size(2)});
}

// Refuses everything a kernel could trip over; returns values, contiguous. On a GPU the indices are
// not read, because that would wait for it: DeltaLayout checked them when it was built.
inline Tensor check_csr(const char* op, const Tensor& crow, const Tensor& col, const Tensor& values,
                        const Tensor& like, int64_t rows, int64_t columns) {
  STD_TORCH_CHECK(values.dim() == 1, op, ": values must have shape [nnz], got ",
                  shape_string(values));
  const int64_t nnz = values.size(0);
  check_dtype(op, "values", values, "x", like);
  check_index(op, "crow_indices", crow, rows + 1, "num_tasks * out_features + 1");
  check_index(op, "col_indices", col, nnz, "nnz");
  if (!crow.is_cpu() || !col.is_cpu()) return torch::stable::contiguous(values);
  const bool valid = with_isa([&](auto isa) {
    return offsets_valid<isa()>(const_data<int32_t>(crow), rows, nnz) &&
           indices_in_range<isa()>(const_data<int32_t>(col), nnz, static_cast<int32_t>(columns));
  });
  STD_TORCH_CHECK(valid, op, ": indices must be a CSR structure of ", rows, " rows and ", columns,
                  " columns with ", nnz, " entries; build the layout with DeltaLayout.from_csr");
  return torch::stable::contiguous(values);
}

// Shapes and dtypes of delta_linear's dense arguments.
inline void check_delta_linear(const char* op, const Tensor& base, const Tensor& x,
                               const std::optional<Tensor>& bias, int64_t num_tasks) {
  check_rows(op, "x", x, num_tasks);
  check_rows(op, "base", base, num_tasks);
  check_dtype(op, "base", base, "x", x);
  STD_TORCH_CHECK(base.size(1) == x.size(1), op, ": base must have the ", x.size(1),
                  " rows of x, got ", shape_string(base));
  if (!bias) return;
  STD_TORCH_CHECK(bias->dim() == 2 && bias->size(0) == num_tasks && bias->size(1) == base.size(2),
                  op, ": bias must have shape [", num_tasks, ", ", base.size(2),
                  "] (tasks, out_features), got ", shape_string(*bias));
  check_dtype(op, "bias", *bias, "x", x);
}

// Rows may be strided (a slice of a wider activation); features must be adjacent.
inline Tensor unit_stride(const Tensor& t) {
  return t.size(2) <= 1 || t.stride(2) == 1 ? t : torch::stable::contiguous(t);
}

template <typename T>
RowsView<const T> rows_view(const Tensor& t) {
  return {const_data<T>(t), t.size(0) == 1 ? 0 : t.stride(0), t.stride(1)};
}

}  // namespace lets

#include "host/csr.h"

#include <limits>
#include <stdexcept>
#include <string>

namespace lets::host {
namespace {

constexpr int64_t kMaxIndex = std::numeric_limits<int32_t>::max();

[[noreturn]] void fail(const std::string& message) {
  throw std::invalid_argument("delta layout: " + message);
}

std::string str(int64_t value) { return std::to_string(value); }

void check_row(std::span<const int32_t> col, int64_t row, int64_t begin, int64_t end,
               int64_t columns) {
  for (int64_t e = begin; e < end; ++e) {
    const int64_t column = col[e];
    if (column < 0 || column >= columns)
      fail("col_indices must be in [0, " + str(columns) + ") (in_features), got " + str(column) +
           " in row " + str(row));
    if (e > begin && column <= col[e - 1])
      fail("col_indices must increase strictly within a row, got " + str(column) + " after " +
           str(col[e - 1]) + " in row " + str(row));
  }
}

}  // namespace

void validate_csr(std::span<const int32_t> crow, std::span<const int32_t> col, int64_t rows,
                  int64_t columns) {
  const auto nnz = static_cast<int64_t>(col.size());
  if (rows < 0 || rows >= kMaxIndex) fail("rows must be in [0, 2^31 - 1), got " + str(rows));
  if (columns <= 0 || columns > kMaxIndex)
    fail("in_features must be positive and fit int32, got " + str(columns));
  if (nnz > kMaxIndex) fail("nnz must fit int32, got " + str(nnz));
  if (static_cast<int64_t>(crow.size()) != rows + 1)
    fail("crow_indices must have " + str(rows + 1) + " entries (rows + 1), got " +
         str(static_cast<int64_t>(crow.size())));
  if (crow[0] != 0) fail("crow_indices must start at 0, got " + str(crow[0]) + " in row 0");
  for (int64_t row = 0; row < rows; ++row) {
    const int64_t begin = crow[row], end = crow[row + 1];
    if (end < begin)
      fail("crow_indices must not decrease, got " + str(end) + " after " + str(begin) + " in row " +
           str(row));
    if (end > nnz)
      fail("crow_indices must not exceed nnz = " + str(nnz) + ", got " + str(end) + " in row " +
           str(row));
    check_row(col, row, begin, end, columns);
  }
  if (crow[rows] != nnz)
    fail("crow_indices must end at nnz = " + str(nnz) + ", got " + str(crow[rows]));
}

TransposedCsr transpose_csr(std::span<const int32_t> crow, std::span<const int32_t> col,
                            int64_t num_tasks, int64_t out_features, int64_t in_features) {
  if (num_tasks <= 0 || num_tasks > kMaxIndex)
    fail("num_tasks must be positive, got " + str(num_tasks));
  if (out_features < 0 || out_features > kMaxIndex)
    fail("out_features must be in [0, 2^31), got " + str(out_features));
  const int64_t rows = num_tasks * out_features;
  validate_csr(crow, col, rows, in_features);
  if (num_tasks * in_features >= kMaxIndex)
    fail("num_tasks * in_features must fit int32, got " + str(num_tasks) + " * " +
         str(in_features));

  TransposedCsr result;
  result.ccol.assign(static_cast<size_t>(num_tasks * in_features + 1), 0);
  result.row.resize(col.size());
  result.permutation.resize(col.size());
  for (int64_t row = 0; row < rows; ++row)
    for (int64_t e = crow[row]; e < crow[row + 1]; ++e)
      ++result.ccol[row / out_features * in_features + col[e] + 1];
  for (size_t i = 1; i < result.ccol.size(); ++i) result.ccol[i] += result.ccol[i - 1];
  std::vector<int32_t> next(result.ccol.begin(), result.ccol.end() - 1);
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t e = crow[row]; e < crow[row + 1]; ++e) {
      const int32_t slot = next[row / out_features * in_features + col[e]]++;
      result.row[slot] = static_cast<int32_t>(row % out_features);
      result.permutation[slot] = static_cast<int32_t>(e);
    }
  }
  return result;
}

}  // namespace lets::host

// Validation and transposition of CSR structures that come from files: everything is checked before
// use. Torch-free; errors are std::invalid_argument and name the row and the rule.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace lets::host {

// Checks that crow [rows + 1] and col [nnz] are a canonical CSR structure: offsets start at 0,
// never decrease and end at nnz; the columns of a row increase strictly and are in [0, columns).
void validate_csr(std::span<const int32_t> crow, std::span<const int32_t> col, int64_t rows,
                  int64_t columns);

struct TransposedCsr {
  std::vector<int32_t> ccol;         // [tasks * columns + 1], offsets into row and permutation
  std::vector<int32_t> row;          // [nnz] output feature within its task
  std::vector<int32_t> permutation;  // [nnz] position of the entry in CSR order
};

// Transposes each of num_tasks structures of [out_features, in_features] that are stacked along
// rows. Validates first.
TransposedCsr transpose_csr(std::span<const int32_t> crow, std::span<const int32_t> col,
                            int64_t num_tasks, int64_t out_features, int64_t in_features);

}  // namespace lets::host

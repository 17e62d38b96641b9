// Fuzz target of the host library: any bytes as a CSR structure. What is accepted must have a right
// transpose; what is refused must say why; ASan and UBSan watch the rest.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <stdexcept>

#include "host/csr.h"

namespace {

// The transpose has num_tasks * in_features + 1 offsets, which a caller pays for knowingly.
constexpr int64_t kMostColumns = 1 << 16;

void require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "csr: %s\n", what);
  std::abort();
}

void check_transpose(std::span<const int32_t> crow, std::span<const int32_t> col, int64_t tasks,
                     int64_t out, int64_t in, const lets::host::TransposedCsr& t) {
  require(static_cast<int64_t>(t.ccol.size()) == tasks * in + 1, "offsets of the transpose");
  require(t.row.size() == col.size() && t.permutation.size() == col.size(), "transposed entries");
  require(t.ccol.front() == 0 && t.ccol.back() == static_cast<int64_t>(col.size()), "ends");
  std::vector<bool> seen(col.size());
  for (int64_t c = 0; c < tasks * in; ++c) {
    for (int64_t e = t.ccol[c]; e < t.ccol[c + 1]; ++e) {
      const int64_t from = t.permutation[e], row = c / in * out + t.row[e];
      require(from >= 0 && from < static_cast<int64_t>(col.size()) && !seen[from], "permutation");
      seen[from] = true;
      require(col[from] == c % in && crow[row] <= from && from < crow[row + 1], "place");
    }
  }
}

}  // namespace

// int32 num_tasks, out_features, in_features, length of crow_indices (modulo what is there);
// crow_indices; col_indices.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::vector<int32_t> words(size / sizeof(int32_t));
  if (!words.empty()) std::memcpy(words.data(), data, words.size() * sizeof(int32_t));
  if (words.size() < 4) return 0;
  const int64_t tasks = words[0], out = words[1], in = words[2];
  const size_t rest = words.size() - 4;
  const size_t rows = static_cast<uint32_t>(words[3]) % (rest + 1);
  // Copies of their own, so that a read past either is seen.
  const std::vector<int32_t> crow(words.begin() + 4, words.begin() + 4 + rows);
  const std::vector<int32_t> col(words.begin() + 4 + rows, words.end());
  try {
    lets::host::validate_csr(crow, col, out, in);
  } catch (const std::invalid_argument& error) {
    require(std::strncmp(error.what(), "delta layout: ", 14) == 0, "message");
  }
  if (tasks > 0 && in > 0 && tasks * in > kMostColumns && tasks * in < INT32_MAX) return 0;
  try {
    check_transpose(crow, col, tasks, out, in,
                    lets::host::transpose_csr(crow, col, tasks, out, in));
  } catch (const std::invalid_argument& error) {
    require(std::strncmp(error.what(), "delta layout: ", 14) == 0, "message");
  }
  return 0;
}

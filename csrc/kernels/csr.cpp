#include "kernels/csr.h"

namespace lets {

// Both loops run to the end even after a bad entry: without an exit they become vector code.
template <Isa isa>
bool indices_in_range(const int32_t* indices, int64_t n, int32_t bound) {
  uint32_t bad = 0;
  for (int64_t i = 0; i < n; ++i)
    bad |= static_cast<uint32_t>(indices[i]) >= static_cast<uint32_t>(bound);
  return bad == 0;
}

template <Isa isa>
bool offsets_valid(const int32_t* offsets, int64_t n, int64_t nnz) {
  uint32_t bad = 0;
  for (int64_t i = 0; i < n; ++i) bad |= offsets[i] > offsets[i + 1];
  return bad == 0 && offsets[0] == 0 && offsets[n] == nnz;
}

template bool indices_in_range<kIsa>(const int32_t*, int64_t, int32_t);
template bool offsets_valid<kIsa>(const int32_t*, int64_t, int64_t);

}  // namespace lets

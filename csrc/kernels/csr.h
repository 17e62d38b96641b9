// Cheap checks of index arrays, made at every call: a bad handle is an error, never a read out of
// bounds.
#pragma once
#include <cstdint>

#include "kernels/isa.h"

namespace lets {

// Whether all n indices are in [0, bound).
template <Isa isa>
bool indices_in_range(const int32_t* indices, int64_t n, int32_t bound);

// Whether n + 1 offsets start at 0, never decrease and end at nnz.
template <Isa isa>
bool offsets_valid(const int32_t* offsets, int64_t n, int64_t nnz);

}  // namespace lets

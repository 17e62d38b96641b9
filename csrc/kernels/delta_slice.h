// What the two ways of delta_linear share: the problem of one task and one block of tokens.
// Internal linkage: see the note in isa.h.
#pragma once
#include "kernels/delta_linear.h"
#include "kernels/token_block.h"

namespace lets {
namespace {

template <typename T>
struct DeltaSlice {
  const int32_t *crow, *col;     // crow at the task's first output
  const Accumulator<T>* values;  // [nnz]
  const T* bias;                 // [O] or null
  const T* base;                 // [tokens, O] or null: zeros
  T* out;                        // [tokens, O]
  int64_t base_stride, out_stride, tokens;
};

template <bool streamed, typename T>
inline void put(T* p, Vec<Accumulator<T>> v) {
  if constexpr (streamed)
    stream(p, v);
  else
    store(p, v);
}

}  // namespace
}  // namespace lets

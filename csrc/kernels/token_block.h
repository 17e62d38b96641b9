// A block of tokens, feature-major: what makes a sparse product with it vector code over tokens.
// Internal linkage: see the note in isa.h.
#pragma once
#include "kernels/transpose.h"

namespace lets {
namespace {

constexpr int kStrip = 16;  // tokens are padded to strips of this many

// Squares walk along many rows at once, which the hardware's prefetchers do not follow: they ask
// for what comes this many squares later (a third less time where activations come from memory).
constexpr int kSquaresAhead = 4;

// out[k * stride + t] = rows[t][k] for t in [0, padded tokens), k in [0, features). Padding repeats
// the last token: whatever is computed from it is never stored.
template <typename T>
inline void pack_tokens(const T* rows, int64_t row_stride, int64_t tokens, int64_t features,
                        Accumulator<T>* out, int64_t stride) {
  using A = Accumulator<T>;
  constexpr int W = kLanes<A>;
  const int64_t padded = (tokens + kStrip - 1) / kStrip * kStrip;
  for (int64_t t = 0; t < padded; t += W) {
    const T* row[W];
    for (int i = 0; i < W; ++i) row[i] = rows + (t + i < tokens ? t + i : tokens - 1) * row_stride;
    int64_t k = 0;
    for (; k + W <= features; k += W) {
      Vec<A> block[W];
#pragma GCC unroll 16
      for (int i = 0; i < W; ++i) prefetch_l2(row[i] + k + kSquaresAhead * W);
#pragma GCC unroll 16
      for (int i = 0; i < W; ++i) block[i] = load(row[i] + k);
      transpose<A>(block);
#pragma GCC unroll 16
      for (int i = 0; i < W; ++i) store(out + (k + i) * stride + t, block[i]);
    }
    for (; k < features; ++k)
      for (int i = 0; i < W; ++i) out[k * stride + t + i] = widen(row[i][k]);
  }
}

}  // namespace
}  // namespace lets

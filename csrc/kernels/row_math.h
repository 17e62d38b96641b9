// Layer norm and loops over one row, for the fused epilogues.
#pragma once
#include <math.h>

#include "kernels/simd.h"

namespace lets {
namespace {

// step(i, count) for every vector of a row; count is a constant for all but a part at the end.
template <typename A>
struct WholeVector {
  constexpr operator int64_t() const { return kLanes<A>; }
};
template <typename A, typename Step>
inline void for_lanes(int64_t n, const Step& step) {
  const int64_t whole = n - n % kLanes<A>;
  for (int64_t i = 0; i < whole; i += kLanes<A>) step(i, WholeVector<A>{});
  if (whole < n) step(whole, n - whole);
}

template <typename A>
struct Moments {
  A mean, rstd;
};

// Two passes over a row that is in the cache: no cancellation, whatever the mean.
template <typename A>
inline Moments<A> row_moments(const A* row, int64_t n, A eps) {
  Vec<A> sum = {}, squares = {};
  for_lanes<A>(n, [&](int64_t i, auto count) { sum += load_part(row + i, count); });
  const A mean = sum_lanes<A>(sum) / static_cast<A>(n);
  for_lanes<A>(n, [&](int64_t i, auto count) {
    const Vec<A> centred = load_part(row + i, count) - mean;
    if (count == kLanes<A>) {
      squares += centred * centred;
    } else {
      for (int64_t j = 0; j < count; ++j) squares[j] += centred[j] * centred[j];
    }
  });
  const A variance = sum_lanes<A>(squares) / static_cast<A>(n);
  return {mean, 1 / static_cast<A>(sqrt(variance + eps))};
}

// out = (row - mean) * rstd * weight + bias
template <typename T, typename Out>
inline void normalize_row(const Accumulator<T>* row, Moments<Accumulator<T>> moments,
                          const T* weight, const T* bias, int64_t n, Out* out) {
  using A = Accumulator<T>;
  for_lanes<A>(n, [&](int64_t i, auto count) {
    const Vec<A> scaled = (load_part(row + i, count) - moments.mean) * moments.rstd;
    store_part(out + i, scaled * load_part(weight + i, count) + load_part(bias + i, count), count);
  });
}

}  // namespace
}  // namespace lets

// delta_linear with results turned in registers. Internal linkage: see the note in isa.h.
#pragma once
#include "kernels/delta_slice.h"

namespace lets {
namespace {

template <typename A>
inline Vec<A> sparse_sum(const int32_t* col, const A* values, int32_t e, int32_t end, const A* x) {
  Vec<A> sum{};
  for (; e < end; ++e) sum += broadcast(values[e]) * load(x + col[e] * kStrip);
  return sum;
}

// The square of kLanes outputs from o on and kLanes tokens from t on. Nothing goes through memory
// between the sums and the results. All of base is loaded before anything is stored: rows that are
// a multiple of 4 KB apart look alike to the check for loads that must wait for an earlier store
// (hidden size 1024: a third of the time).
template <bool whole, bool streamed, typename T>
inline void linear_square(const DeltaSlice<T>& s, const Accumulator<T>* x, int64_t t, int64_t o,
                          int64_t outputs) {
  using A = Accumulator<T>;
  constexpr int W = kLanes<A>;
  const int32_t* crow = s.crow + o;
  const int32_t* col = s.col;
  const A* values = s.values;
  const T* base = s.base ? s.base + t * s.base_stride + o : nullptr;
  T* out = s.out + t * s.out_stride + o;
  x += t;
  if (whole && base)
#pragma GCC unroll 16
    for (int i = 0; i < W; ++i) prefetch_l2(base + i * s.base_stride + kSquaresAhead * W);
  Vec<A> sums[W];
#pragma GCC unroll 16
  for (int i = 0; i < W; ++i) {
    sums[i] = Vec<A>{};
    if (!whole && i >= outputs) continue;
    sums[i] = sparse_sum<A>(col, values, crow[i], crow[i + 1], x);
  }
  transpose<A>(sums);
  const auto get = [&](const T* p) { return whole ? load(p) : load_part(p, outputs); };
  const Vec<A> bias = s.bias ? get(s.bias + o) : Vec<A>{};
#pragma GCC unroll 16
  for (int i = 0; i < W; ++i) {
    if (!whole && t + i >= s.tokens) continue;
    sums[i] += bias;
    if (base) sums[i] += get(base + i * s.base_stride);
  }
#pragma GCC unroll 16
  for (int i = 0; i < W; ++i) {
    if (!whole && t + i >= s.tokens) continue;
    if constexpr (whole)
      put<streamed>(out + i * s.out_stride, sums[i]);
    else
      store_part(out + i * s.out_stride, sums[i], outputs);
  }
}

// out = base + delta x + bias for outputs [begin, end) and at most kStrip tokens, whose x is
// packed.
template <bool streamed, typename T>
inline void linear_strip(const DeltaSlice<T>& s, const Accumulator<T>* x, int64_t begin,
                         int64_t end) {
  constexpr int W = kLanes<Accumulator<T>>;
  for (int64_t t = 0; t < s.tokens; t += W) {
    int64_t o = begin;
    if (t + W <= s.tokens)
      for (; o + W <= end; o += W) linear_square<true, streamed>(s, x, t, o, W);
    for (; o < end; o += W) linear_square<false, false>(s, x, t, o, end - o < W ? end - o : W);
  }
}

}  // namespace
}  // namespace lets

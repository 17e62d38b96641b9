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

// The square of kLanes outputs from o on and kLanes tokens from t on. Base and out are walked along
// their rows, a few rows at a time, which the prefetchers follow; nothing goes through memory
// between the sums and the results.
template <bool whole, bool streamed, typename T>
inline void linear_square(const DeltaSlice<T>& s, const Accumulator<T>* x, int64_t t, int64_t o,
                          int64_t outputs) {
  using A = Accumulator<T>;
  constexpr int W = kLanes<A>;
  const int32_t* crow = s.crow + o;
  const int32_t* col = s.col;
  const A* values = s.values;
  x += t;
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
  const T* base = s.base ? s.base + t * s.base_stride + o : nullptr;
  T* out = s.out + t * s.out_stride + o;
#pragma GCC unroll 16
  for (int i = 0; i < W; ++i) {
    if (!whole && t + i >= s.tokens) continue;
    const Vec<A> sum = sums[i] + bias;
    const Vec<A> v = base ? sum + get(base + i * s.base_stride) : sum;
    if constexpr (whole)
      put<streamed>(out + i * s.out_stride, v);
    else
      store_part(out + i * s.out_stride, v, outputs);
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

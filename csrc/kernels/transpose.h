// Transposes a square of kLanes x kLanes elements in registers. Internal linkage: see the note in
// isa.h.
#pragma once
#include "kernels/simd.h"

namespace lets {
namespace {

template <int... lane>
struct Lanes {};
template <int n, int... lane>
struct MakeLanes : MakeLanes<n - 1, n - 1, lane...> {};
template <int... lane>
struct MakeLanes<0, lane...> {
  using type = Lanes<lane...>;
};

// Exchanges the off-diagonal blocks of size d of two rows that are d apart; as a shuffle, lanes of
// the second row count from n.
template <int d, typename V, int... lane>
inline void exchange(V& upper, V& lower, Lanes<lane...>) {
  constexpr int n = sizeof...(lane);
  const V a = upper, b = lower;
  upper = __builtin_shufflevector(a, b, (lane & d ? n + lane - d : lane)...);
  lower = __builtin_shufflevector(a, b, (lane & d ? n + lane : lane + d)...);
}

// log2(kLanes) rounds of block exchanges, after Eklundh 1972, "A fast computer method for matrix
// transposing".
template <typename A, int d = kLanes<A> / 2>
inline void transpose(Vec<A> (&rows)[kLanes<A>]) {
  using All = typename MakeLanes<kLanes<A>>::type;
#pragma GCC unroll 16
  for (int i = 0; i < kLanes<A>; ++i)
    if (!(i & d)) exchange<d>(rows[i], rows[i + d], All{});
  if constexpr (d > 1) transpose<A, d / 2>(rows);
}

}  // namespace
}  // namespace lets

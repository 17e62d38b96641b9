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

// Where lane i of the even (odd = 0) or odd units of two rows comes from; lanes of the second row
// count from `lanes`. Units are elements while d is inside 16 bytes, else whole pieces of 16 bytes:
// both are one instruction that overwrites none of its operands.
constexpr int unit_source(int i, int odd, int d, int piece, int lanes) {
  const int in_piece = i % piece, begin = i - in_piece;
  if (d < piece) {
    const int from = 2 * in_piece + odd;
    return from < piece ? begin + from : lanes + begin + from - piece;
  }
  return 2 * begin + odd * piece + in_piece;
}

template <int d, int piece, typename V, int... lane>
inline void split_units(V& upper, V& lower, Lanes<lane...>) {
  constexpr int n = sizeof...(lane);
  const V a = upper, b = lower;
  upper = __builtin_shufflevector(a, b, unit_source(lane, 0, d, piece, n)...);
  lower = __builtin_shufflevector(a, b, unit_source(lane, 1, d, piece, n)...);
}

// log2(kLanes) rounds: each sorts the units of rows that are d apart by one bit of their column,
// which becomes that bit of the row (Eklundh 1972, "A fast computer method for matrix
// transposing").
template <typename A, int d = 1>
inline void transpose(Vec<A> (&rows)[kLanes<A>]) {
  using All = typename MakeLanes<kLanes<A>>::type;
#pragma GCC unroll 16
  for (int i = 0; i < kLanes<A>; ++i)
    if (!(i & d)) split_units<d, 16 / static_cast<int>(sizeof(A))>(rows[i], rows[i + d], All{});
  if constexpr (2 * d < kLanes<A>) transpose<A, 2 * d>(rows);
}

}  // namespace
}  // namespace lets

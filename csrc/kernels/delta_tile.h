// delta_linear with results turned through a tile in L1. Internal linkage: see the note in isa.h.
#pragma once
#include "kernels/delta_slice.h"

namespace lets {
namespace {

constexpr int kGroup = DeltaLinearPlan::kOutputGroup;

template <typename A>
struct SparseRow {
  const int32_t* col;
  const A* values;
  int32_t begin, end;
  A bias;
};

// Strips whose accumulators fill half of the registers.
template <typename A>
constexpr int kStripsPerPass = kLanes<A> * 8 >= 4 * kStrip   ? 4
                               : kLanes<A> * 8 >= 2 * kStrip ? 2
                                                             : 1;

// tile[0 .. strips * kStrip) = bias + sum of values[e] * x[col[e]] for as many tokens.
template <typename A, int strips>
inline void sparse_row(const SparseRow<A>& row, const A* x, int64_t stride, A* tile) {
  constexpr int W = kLanes<A>, n = strips * kStrip / W;
  Vec<A> sum[n];
#pragma GCC unroll 16
  for (int i = 0; i < n; ++i) sum[i] = broadcast(row.bias);
  for (int32_t e = row.begin; e < row.end; ++e) {
    const Vec<A> value = broadcast(row.values[e]);
    const A* column = x + row.col[e] * stride;
#pragma GCC unroll 16
    for (int i = 0; i < n; ++i) sum[i] += value * load(column + i * W);
  }
#pragma GCC unroll 16
  for (int i = 0; i < n; ++i) store(tile + i * W, sum[i]);
}

template <typename A>
inline void sparse_row(const SparseRow<A>& row, const A* x, int64_t strips, int64_t stride,
                       A* tile) {
  constexpr int P = kStripsPerPass<A>;
  for (int64_t s = 0; s < strips; s += P) {
    const A* from = x + s * kStrip;
    A* to = tile + s * kStrip;
    const int64_t left = strips - s;
    if (P >= 4 && left >= 4)
      sparse_row<A, P >= 4 ? 4 : 1>(row, from, stride, to);
    else if (P >= 4 && left == 3)
      sparse_row<A, P >= 4 ? 3 : 1>(row, from, stride, to);
    else if (P >= 2 && left >= 2)
      sparse_row<A, P >= 2 ? 2 : 1>(row, from, stride, to);
    else
      sparse_row<A, 1>(row, from, stride, to);
  }
}

template <bool streamed, typename T>
inline void add_row(const Accumulator<T>* sum, const T* base, T* out, int64_t outputs) {
  constexpr int W = kLanes<Accumulator<T>>;
  int64_t o = 0;
  if (base) {
    for (; o + W <= outputs; o += W) put<streamed>(out + o, load(sum + o) + load(base + o));
    for (; o < outputs; ++o) out[o] = narrow<T>(sum[o] + widen(base[o]));
  } else {
    for (; o + W <= outputs; o += W) put<streamed>(out + o, load(sum + o));
    for (; o < outputs; ++o) out[o] = narrow<T>(sum[o]);
  }
}

// out[t][o] = base[t][o] + tile[o][t] for a group of outputs. A strip is turned to token-major
// order in L1 first, so that base and out are walked in runs of kGroup: shorter ones defeat the
// prefetchers and cost a TLB miss each (2-4 times slower from L3).
template <bool streamed, typename T>
inline void add_tile(const Accumulator<T>* tile, int64_t stride, const T* base, int64_t base_stride,
                     T* out, int64_t out_stride, int64_t tokens, int64_t outputs,
                     Accumulator<T>* strip) {
  using A = Accumulator<T>;
  constexpr int W = kLanes<A>;
  for (int64_t t = 0; t < tokens; t += W) {
    for (int64_t o = 0; o < outputs; o += W) {
      Vec<A> block[W];
#pragma GCC unroll 16
      for (int i = 0; i < W; ++i) block[i] = load(tile + (o + i) * stride + t);
      transpose<A>(block);
#pragma GCC unroll 16
      for (int i = 0; i < W; ++i) store(strip + i * kGroup + o, block[i]);
    }
    for (int64_t i = 0; i < W && t + i < tokens; ++i)
      add_row<streamed, T>(strip + i * kGroup, base ? base + (t + i) * base_stride : nullptr,
                           out + (t + i) * out_stride, outputs);
  }
}

template <typename T>
inline void prefetch_run(const T* p, int64_t count) {
  for (int64_t i = 0; i < count; i += 64 / static_cast<int64_t>(sizeof(T))) prefetch_l2(p + i);
}

// out = base + delta x + bias for outputs [begin, end) and a block of tokens, whose x is packed.
template <bool streamed, typename T>
inline void linear_tiles(const DeltaSlice<T>& s, const Accumulator<T>* x, int64_t stride,
                         Accumulator<T>* tile, int64_t begin, int64_t end) {
  using A = Accumulator<T>;
  const int64_t strips = (s.tokens + kStrip - 1) / kStrip;
  A* strip = tile + kGroup * stride;
  for (int64_t o = begin; o < end; o += kGroup) {
    const int64_t outputs = end - o < kGroup ? end - o : kGroup;
    for (int64_t i = 0; i < outputs; ++i) {
      // Runs of base are too short for the hardware to see them coming: the sums before them are
      // the time to ask for one after the other (a third less time where base is in memory).
      if (s.base && i < s.tokens) prefetch_run(s.base + i * s.base_stride + o, outputs);
      sparse_row<A>(
          {s.col, s.values, s.crow[o + i], s.crow[o + i + 1], s.bias ? widen(s.bias[o + i]) : A(0)},
          x, strips, stride, tile + i * stride);
    }
    add_tile<streamed, T>(tile, stride, s.base ? s.base + o : nullptr, s.base_stride, s.out + o,
                          s.out_stride, s.tokens, outputs, strip);
  }
}

}  // namespace
}  // namespace lets

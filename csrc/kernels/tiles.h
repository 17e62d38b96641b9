// Register tiles of the small matrix products of the [CLS] ops. `a` holds the few activation rows
// (in the accumulation type), `b` the many weight or token rows (in the storage type), so a tile
// reads `b` once for up to kTileRows rows of `a`. Every output is one chain of additions over k
// that depends on neither the tile's shape nor the number of threads.

#pragma once
#include <type_traits>

#include "kernels/simd.h"

namespace lets {
namespace {

#if defined(__AVX512F__)
constexpr int kTileRows = 9;  // 9 x 3 accumulators + 3 operands + 1 of 32 registers
#else
constexpr int kTileRows = 4;  // 4 x 3 accumulators + 3 operands + 1 of 16 registers
#endif
constexpr int kTileCols = 3;

// sums[m][n] = a[m, :] . b[n, :]. A tile asks for the next one of `b` while it computes. Weights
// come from memory, rows are too short for the hardware to see a stream, and tiles are too long for
// L1: without this, loads and arithmetic take turns (9 rows: 1.10 ms against 0.53).
template <int Rows, int Cols, typename T>
inline void dot_tile(const Accumulator<T>* a, int64_t a_stride, const T* b, int64_t b_stride,
                     int64_t k, Accumulator<T> (&sums)[kTileRows][kTileCols]) {
  using A = Accumulator<T>;
  Vec<A> acc[Rows][Cols] = {};
  const auto add = [&](int64_t i, const auto& get) {
    Vec<A> columns[Cols];
#pragma GCC unroll 3
    for (int n = 0; n < Cols; ++n) columns[n] = get(b + n * b_stride + i);
#pragma GCC unroll 9
    for (int m = 0; m < Rows; ++m) {
      const Vec<A> row = get(a + m * a_stride + i);
#pragma GCC unroll 3
      for (int n = 0; n < Cols; ++n) acc[m][n] += row * columns[n];
    }
  };
  const int64_t whole = k - k % kLanes<A>;
  for (int64_t i = 0; i < whole; i += kLanes<A>) {
#pragma GCC unroll 3
    for (int n = 0; n < Cols; ++n) prefetch_l2(b + (Cols + n) * b_stride + i);
    add(i, [](auto p) { return load(p); });
  }
  if (whole < k) add(whole, [&](auto p) { return load_part(p, k - whole); });
#pragma GCC unroll 9
  for (int m = 0; m < Rows; ++m) {
#pragma GCC unroll 3
    for (int n = 0; n < Cols; ++n) sums[m][n] = sum_lanes<A>(acc[m][n]);
  }
}

// out[m, 0 : Cols * lanes] = sum over k of a[m, k] * b[k, :]
template <int Rows, int Cols, typename T>
inline void axpy_tile(const Accumulator<T>* a, int64_t a_stride, const T* b, int64_t b_stride,
                      int64_t k, Accumulator<T>* out, int64_t out_stride) {
  using A = Accumulator<T>;
  Vec<A> acc[Rows][Cols] = {};
  for (int64_t i = 0; i < k; ++i) {
    Vec<A> columns[Cols];
#pragma GCC unroll 3
    for (int n = 0; n < Cols; ++n) {
      columns[n] = load(b + i * b_stride + n * kLanes<A>);
      prefetch_l2(b + i * b_stride + (Cols + n) * kLanes<A>);
    }
#pragma GCC unroll 9
    for (int m = 0; m < Rows; ++m) {
      const Vec<A> row = broadcast<A>(a[m * a_stride + i]);
#pragma GCC unroll 3
      for (int n = 0; n < Cols; ++n) acc[m][n] += row * columns[n];
    }
  }
#pragma GCC unroll 9
  for (int m = 0; m < Rows; ++m) {
#pragma GCC unroll 3
    for (int n = 0; n < Cols; ++n) store(out + m * out_stride + n * kLanes<A>, acc[m][n]);
  }
}

// Calls body(integral_constant<int, Rows>) with the compile-time form of `rows` (1 .. kTileRows).
template <int Rows = kTileRows, typename Body>
inline void with_rows(int64_t rows, const Body& body) {
  if constexpr (Rows == 1) {
    body(std::integral_constant<int, 1>{});
  } else if (rows == Rows) {
    body(std::integral_constant<int, Rows>{});
  } else {
    with_rows<Rows - 1>(rows, body);
  }
}

inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

// Rows per tile when `rows` are cut into as few, as equal tiles as possible.
inline int64_t balanced_rows(int64_t rows) {
  const int64_t tiles = (rows + kTileRows - 1) / kTileRows;
  return tiles == 0 ? 1 : (rows + tiles - 1) / tiles;
}

// sink(m, n, a[m, :] . b[n, :]) for all m < rows, n < cols: `b` is read once, tile by tile.
template <typename T, typename Sink>
inline void dot_product(const Accumulator<T>* a, int64_t a_stride, int64_t rows, const T* b,
                        int64_t b_stride, int64_t cols, int64_t k, const Sink& sink) {
  const int64_t step = balanced_rows(rows);
  for (int64_t n = 0; n < cols;) {
    const bool full = n + kTileCols <= cols;
    for (int64_t m = 0; m < rows; m += step) {
      const int64_t tile_rows = smaller(step, rows - m);
      Accumulator<T> sums[kTileRows][kTileCols];
      with_rows(tile_rows, [&](auto tile) {
        constexpr int kRows = decltype(tile)::value;
        const Accumulator<T>* a_tile = a + m * a_stride;
        const T* b_tile = b + n * b_stride;
        if (full) {
          dot_tile<kRows, kTileCols, T>(a_tile, a_stride, b_tile, b_stride, k, sums);
        } else {
          dot_tile<kRows, 1, T>(a_tile, a_stride, b_tile, b_stride, k, sums);
        }
      });
      for (int64_t r = 0; r < tile_rows; ++r) {
        for (int64_t c = 0; c < (full ? kTileCols : 1); ++c) sink(m + r, n + c, sums[r][c]);
      }
    }
    n += full ? kTileCols : 1;
  }
}

// out[m, n] = sum over k of a[m, k] * b[k, n].
template <typename T>
inline void axpy_product(const Accumulator<T>* a, int64_t a_stride, int64_t rows, const T* b,
                         int64_t b_stride, int64_t cols, int64_t k, Accumulator<T>* out,
                         int64_t out_stride) {
  constexpr int64_t kLane = kLanes<Accumulator<T>>;
  const int64_t step = balanced_rows(rows);
  int64_t n = 0;
  while (n + kLane <= cols) {
    const bool full = n + kTileCols * kLane <= cols;
    for (int64_t m = 0; m < rows; m += step) {
      with_rows(smaller(step, rows - m), [&](auto tile) {
        constexpr int kRows = decltype(tile)::value;
        const Accumulator<T>* a_tile = a + m * a_stride;
        Accumulator<T>* out_tile = out + m * out_stride + n;
        if (full) {
          axpy_tile<kRows, kTileCols, T>(a_tile, a_stride, b + n, b_stride, k, out_tile,
                                         out_stride);
        } else {
          axpy_tile<kRows, 1, T>(a_tile, a_stride, b + n, b_stride, k, out_tile, out_stride);
        }
      });
    }
    n += (full ? kTileCols : 1) * kLane;
  }
  for (; n < cols; ++n) {
    for (int64_t m = 0; m < rows; ++m) {
      Accumulator<T> sum = 0;
      for (int64_t i = 0; i < k; ++i) sum += a[m * a_stride + i] * widen(b[i * b_stride + n]);
      out[m * out_stride + n] = sum;
    }
  }
}

}  // namespace
}  // namespace lets

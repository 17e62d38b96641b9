// A few rows of a matrix in shared memory, transposed: the values that one feature has in all rows
// lie side by side, so that one load feeds kRows multiply-adds.
#pragma once
#include "kernels/gpu.h"

namespace lets::gpu {

template <typename T, int kRows>
struct RowTile {
  static constexpr int kBytes = kRows * sizeof(T);
  using Column = Pack<T, kBytes>;

  T* data;

  static __host__ __device__ size_t bytes(int64_t features) {
    return ceil_div<int64_t>(features, 8) * 8 * kBytes;
  }

  // Neighbouring lanes store the same feature of different rows or features 16 bytes of a row
  // apart; the exclusive or puts the latter into different banks.
  static __device__ __forceinline__ int slot(int feature) {
    return (feature & ~7) | ((feature ^ (feature >> 3)) & 7);
  }

  __device__ __forceinline__ Column at_slot(int slot) const {
    return load_pack<kBytes>(data + slot * kRows);
  }
  __device__ __forceinline__ Column at(int feature) const { return at_slot(slot(feature)); }

  // By all threads of the block; rows from num_rows on read as zeros. vectors: rows are aligned.
  __device__ __forceinline__ void load(const T* rows, int64_t row_stride, int num_rows,
                                       int features, bool vectors) const {
    constexpr int kVector = 16 / sizeof(T);
    if (vectors) {
      for (int i = threadIdx.x; i < kRows * (features / kVector); i += blockDim.x) {
        const int row = i % kRows, feature = i / kRows * kVector;
        Pack<T> pack{};
        if (row < num_rows) pack = load_constant<16>(rows + row * row_stride + feature);
#pragma unroll
        for (int j = 0; j < kVector; ++j) data[slot(feature + j) * kRows + row] = pack.v[j];
      }
    } else {
      for (int i = threadIdx.x; i < kRows * features; i += blockDim.x) {
        const int row = i / features, feature = i % features;
        data[slot(feature) * kRows + row] = row < num_rows ? rows[row * row_stride + feature] : T{};
      }
    }
  }
};

}  // namespace lets::gpu

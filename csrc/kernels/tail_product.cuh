// Products of a few staged rows with a tile of a weight's rows; the warps of a block share the
// features, and their partial sums meet in shared memory.
#pragma once
#include <type_traits>

#include "kernels/weight_stream.cuh"

namespace lets::gpu {

// Rows that one pass over the weights serves: those of one tensor-core product, or what an fp32
// thread can hold in registers.
template <bool kTensor>
constexpr int kTailRows = kTensor ? 16 : 8;

// Rows in shared memory start 64 bytes further in the banks than the row before, so that the 8 rows
// by 4 lanes of a fragment do not meet.
template <typename T>
__host__ __device__ constexpr int64_t staged_stride(int64_t features) {
  return ceil_div<int64_t>(features, 32) * 32 + 64 / sizeof(T);
}

// sums[warp][row][output] of the features that this warp takes, with the weights of the next tile.
// A fragment's order of features is free as long as both operands agree: lane t of a group takes
// eight neighbours, one 16-byte load instead of four of 4 bytes.
template <typename T, typename Stream>
__device__ void multiply_tensor(Stream& weights, const T* staged, int64_t stride, int num_rows,
                                int features, float* sums) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, group = lane / 4;
  float c[4] = {};
#pragma unroll 2
  for (int k0 = 0; k0 < features; k0 += Stream::kFeatures) {
    const int k = k0 + (warp * 4 + lane % 4) * 8;
    typename Stream::Word b[1];
    weights.next(b);
    Pack<T> low{}, high{};
    if (k < features) {
      if (group < num_rows) low = load_pack<16>(staged + group * stride + k);
      if (group + 8 < num_rows) high = load_pack<16>(staged + (group + 8) * stride + k);
    }
    uint32_t wb[4], wl[4], wh[4];
    memcpy(wb, &b[0], 16);
    memcpy(wl, &low, 16);
    memcpy(wh, &high, 16);
#pragma unroll
    for (int step = 0; step < 4; step += 2) {
      const uint32_t a_fragment[4] = {wl[step], wh[step], wl[step + 1], wh[step + 1]};
      const uint32_t b_fragment[2] = {wb[step], wb[step + 1]};
      mma(c, a_fragment, b_fragment, T{});
    }
  }
  float* out = sums + warp * kTailRows<true> * kTailOutputs + lane % 4 * 2;
#pragma unroll
  for (int i = 0; i < 4; ++i) out[(group + i / 2 * 8) * kTailOutputs + i % 2] = c[i];
}

// The same with fp32 multiply-adds, kVector features per lane and step.
template <typename T, int kVector, typename Stream>
__device__ void multiply_scalar(Stream& weights, const T* staged, int64_t stride, int num_rows,
                                int features, float* sums) {
  constexpr int kRows = kTailRows<false>, kHalf = Stream::kWords;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  for (int first = 0; first < kTailOutputs; first += kHalf) {
    float sum[kHalf][kRows] = {};
    for (int k0 = 0; k0 < features; k0 += Stream::kFeatures) {
      const int k = k0 + static_cast<int>(threadIdx.x) * kVector;
      typename Stream::Word w[kHalf];
      weights.next(w);
      if (k >= features) continue;
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        if (r >= num_rows) break;
        const auto x = load_pack<kVector * sizeof(T)>(staged + r * stride + k);
#pragma unroll
        for (int j = 0; j < kVector; ++j) {
#pragma unroll
          for (int o = 0; o < kHalf; ++o) sum[o][r] += to_float(w[o].v[j]) * to_float(x.v[j]);
        }
      }
    }
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
#pragma unroll
      for (int o = 0; o < kHalf; ++o) {
        const float total = warp_sum(sum[o][r]);
        if (lane == 0) sums[(warp * kRows + r) * kTailOutputs + first + o] = total;
      }
    }
  }
}

// LayerNorm of one row by one warp; emit(i, value) gets the result. The sums may come from other
// blocks of the same launch, so they are read with plain loads.
template <typename T, typename Emit>
__device__ void layer_norm_row(const float* sums, const T* weight, const T* bias, int hidden,
                               float eps, const Emit& emit) {
  const int lane = threadIdx.x % 32;
  float total = 0;
  for (int i = lane; i < hidden; i += 32) total += sums[i];
  const float mean = warp_sum(total) / hidden;
  float squares = 0;
  for (int i = lane; i < hidden; i += 32) squares += (sums[i] - mean) * (sums[i] - mean);
  const float rstd = rsqrtf(warp_sum(squares) / hidden + eps);
  for (int i = lane; i < hidden; i += 32)
    emit(i, (sums[i] - mean) * rstd * to_float(weight[i]) + to_float(bias[i]));
}

}  // namespace lets::gpu

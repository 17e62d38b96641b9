// The one header through which kernels see the GPU: nvcc, or the CPU emulator of
// tests/cuda_emulation (-DLETS_CUDA_EMULATION), which runs the same sources.
#pragma once
#ifdef LETS_CUDA_EMULATION
#include "emu/gpu_emulated.h"
#else
#include "kernels/gpu_device.h"
#endif

#include <cstdint>

#include "kernels/dtypes.h"

namespace lets::gpu {

constexpr unsigned kAllLanes = 0xffffffffu;

__device__ __forceinline__ float to_float(float x) { return x; }
__device__ __forceinline__ float to_float(Half x) { return __half2float(__ushort_as_half(x.bits)); }
__device__ __forceinline__ float to_float(BFloat16 x) {
  return __bfloat162float(__ushort_as_bfloat16(x.bits));
}

template <typename T>
__device__ __forceinline__ T from_float(float x);
template <>
__device__ __forceinline__ float from_float<float>(float x) {
  return x;
}
template <>
__device__ __forceinline__ Half from_float<Half>(float x) {
  return {__half_as_ushort(__float2half_rn(x))};
}
template <>
__device__ __forceinline__ BFloat16 from_float<BFloat16>(float x) {
  return {__bfloat16_as_ushort(__float2bfloat16_rn(x))};
}

// kBytes of neighbouring elements, moved by one instruction.
template <typename T, int kBytes = 16>
struct alignas(kBytes) Pack {
  static constexpr int kSize = kBytes / sizeof(T);
  T v[kSize];
};

template <int kBytes>
struct WordOf;
template <>
struct WordOf<2> {
  using type = uint16_t;
};
template <>
struct WordOf<4> {
  using type = uint32_t;
};
template <>
struct WordOf<8> {
  using type = uint2;
};
template <>
struct WordOf<16> {
  using type = uint4;
};

// Global memory that no kernel of the launch writes.
template <int kBytes, typename T>
__device__ __forceinline__ Pack<T, kBytes> load_constant(const T* address) {
  using Word = typename WordOf<kBytes>::type;
  const Word word = read_constant_word(reinterpret_cast<const Word*>(address));
  Pack<T, kBytes> pack;
  memcpy(&pack, &word, kBytes);
  return pack;
}

template <int kBytes, typename T>
__device__ __forceinline__ Pack<T, kBytes> load_pack(const T* address) {
  using Word = typename WordOf<kBytes>::type;
  const Word word = read_word(reinterpret_cast<const Word*>(address));
  Pack<T, kBytes> pack;
  memcpy(&pack, &word, kBytes);
  return pack;
}

template <typename T, int kBytes>
__device__ __forceinline__ void store_pack(T* address, const Pack<T, kBytes>& pack) {
  typename WordOf<kBytes>::type word;
  memcpy(&word, &pack, kBytes);
  write_word(reinterpret_cast<typename WordOf<kBytes>::type*>(address), word);
}

__device__ __forceinline__ float warp_sum(float value) {
#pragma unroll
  for (int lanes = 16; lanes > 0; lanes /= 2) value += __shfl_xor_sync(kAllLanes, value, lanes);
  return value;
}
__device__ __forceinline__ float warp_max(float value) {
#pragma unroll
  for (int lanes = 16; lanes > 0; lanes /= 2)
    value = fmaxf(value, __shfl_xor_sync(kAllLanes, value, lanes));
  return value;
}

// c[16, 8] += a[16, 16] b[16, 8] on tensor cores, in the fragments of PTX's mma.m16n8k16.
__device__ __forceinline__ void mma(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                                    Half) {
  mma_m16n8k16_half(c, a, b);
}
__device__ __forceinline__ void mma(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                                    BFloat16) {
  mma_m16n8k16_bfloat16(c, a, b);
}

// Host side: whether rows at `address` with these strides (in elements) start at multiples of
// kBytes.
template <int kBytes, typename T, typename... Strides>
bool aligned_to(const T* address, Strides... strides) {
  return reinterpret_cast<uintptr_t>(address) % kBytes == 0 &&
         (... && (strides * static_cast<int64_t>(sizeof(T)) % kBytes == 0));
}

template <typename I>
__host__ __device__ constexpr I ceil_div(I a, I b) {
  return (a + b - 1) / b;
}
template <typename I>
__host__ __device__ constexpr I smaller(I a, I b) {
  return a < b ? a : b;
}

}  // namespace lets::gpu

// CUDA C++ for a host compiler: the language's names, mapped to the emulator (runtime.h). NVIDIA's
// own headers give the vector types, half and bfloat16.
#pragma once
#define __global__
#define __device__
#define __host__
#define __launch_bounds__(...)
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime_api.h>
#include <vector_functions.h>

#include <cmath>
#include <cstring>
#include <type_traits>

#include "runtime.h"
#undef __forceinline__
// Always: the traffic model takes a call site for an instruction.
#define __forceinline__ inline __attribute__((always_inline))
#undef __shared__
#define __shared__ EMULATOR_use_LETS_SHARED_ARRAY_instead_of___shared__

#define threadIdx (::emu::running->thread)
#define blockIdx (::emu::running->block)
#define blockDim (::emu::running->block_dim)
#define gridDim (::emu::running->grid_dim)

#define __syncthreads() ::emu::sync_block(::emu::Site{__FILE__, __LINE__})

inline void __syncwarp(unsigned mask = 0xffffffffu, emu::Site site = emu::Site::here()) {
  emu::sync_warp(mask, site);
}

namespace emu {

template <typename T>
T shuffled(T value, int source, unsigned mask, Site site) {
  static_assert(sizeof(T) <= 16);
  shuffle(&value, sizeof(T), source, mask, site);
  return value;
}

// Device-scope and relaxed, as in CUDA: an atomic orders no other memory.
template <typename T, typename F>
T atomic_update(T* address, const F& f) {
  static_assert(sizeof(T) == 4);
  auto* word = reinterpret_cast<uint32_t*>(address);
  uint32_t old_bits = __atomic_load_n(word, __ATOMIC_RELAXED), new_bits;
  T old_value;
  do {
    std::memcpy(&old_value, &old_bits, sizeof(T));
    const T new_value = f(old_value);
    std::memcpy(&new_bits, &new_value, sizeof(T));
  } while (!__atomic_compare_exchange_n(word, &old_bits, new_bits, true, __ATOMIC_RELAXED,
                                        __ATOMIC_RELAXED));
  return old_value;
}

}  // namespace emu

template <typename T>
T __shfl_sync(unsigned mask, T value, int lane, int width = 32,
              emu::Site site = emu::Site::here()) {
  const int first = emu::lane_id() & ~(width - 1);
  return emu::shuffled(value, first + (lane & (width - 1)), mask, site);
}
template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int lanes, int width = 32,
                  emu::Site site = emu::Site::here()) {
  const int me = emu::lane_id(), source = me ^ lanes;
  const bool outside = (source & ~(width - 1)) > (me & ~(width - 1));
  return emu::shuffled(value, outside ? me : source, mask, site);
}
template <typename T>
T __shfl_down_sync(unsigned mask, T value, int lanes, int width = 32,
                   emu::Site site = emu::Site::here()) {
  const int me = emu::lane_id();
  const bool outside = (me & (width - 1)) + lanes >= width;
  return emu::shuffled(value, outside ? me : me + lanes, mask, site);
}
inline unsigned __ballot_sync(unsigned mask, bool predicate, emu::Site site = emu::Site::here()) {
  return emu::ballot(predicate, mask, site);
}

inline bool __any_sync(unsigned mask, bool predicate, emu::Site site = emu::Site::here()) {
  return emu::ballot(predicate, mask, site) != 0;
}
inline unsigned __match_any_sync(unsigned mask, int value, emu::Site site = emu::Site::here()) {
  return emu::match(static_cast<uint32_t>(value), mask, site);
}

template <typename T>
T atomicAdd(T* address, T value) {
  return emu::atomic_update(address, [=](T old) { return static_cast<T>(old + value); });
}

inline void __threadfence() { emu::fence(); }

template <typename T>
T __ldg(const T* address) {
  return *address;
}
inline int __ffs(unsigned x) { return __builtin_ffs(static_cast<int>(x)); }
inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
inline float __expf(float x) { return std::exp(x); }

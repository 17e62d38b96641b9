// Vectors of the instruction set a file is compiled for, by the vector extensions of GCC and Clang:
// the same source becomes SSE2, AVX2, AVX-512 or NEON. Internal linkage: see the note in isa.h.
#pragma once
#include "kernels/convert.h"
#include "kernels/isa.h"

#ifdef __SSE2__
#include <immintrin.h>  // all of it is always_inline
#endif

namespace lets {
namespace {

constexpr int kVectorBytes = kIsa == Isa::kAvx512 ? 64 : kIsa == Isa::kAvx2 ? 32 : 16;

template <typename E, int lanes>
struct VecOf {
  typedef E type __attribute__((vector_size(lanes * sizeof(E))));
};
template <typename A>
constexpr int kLanes = kVectorBytes / static_cast<int>(sizeof(A));
template <typename A>
using Vec = typename VecOf<A, kLanes<A>>::type;

template <typename V, typename E>
inline V load_as(const E* p) {
  V v;
  __builtin_memcpy(&v, p, sizeof(V));
  return v;
}

inline Vec<float> load(const float* p) { return load_as<Vec<float>>(p); }
inline Vec<double> load(const double* p) { return load_as<Vec<double>>(p); }

using UInt16s = VecOf<uint16_t, kLanes<float>>::type;
using UInt32s = VecOf<uint32_t, kLanes<float>>::type;

inline Vec<float> load(const BFloat16* p) {
  const auto bits = __builtin_convertvector(load_as<UInt16s>(p), UInt32s) << 16;
  return load_as<Vec<float>>(&bits);
}

inline Vec<float> load(const Half* p) {
#if defined(__AVX512F__)
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
#elif defined(__F16C__)
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
#else
  Vec<float> v;
  for (int i = 0; i < kLanes<float>; ++i) v[i] = widen(p[i]);
  return v;
#endif
}

template <typename A>
inline void store(A* p, Vec<A> v) {
  __builtin_memcpy(p, &v, sizeof(v));
}

inline void store(BFloat16* p, Vec<float> v) {
  const auto bits = load_as<UInt32s>(&v);
  const UInt32s rounded = (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;  // nearest even
  const UInt32s quiet = bits >> 16 | 0x40u;
  const auto nan = load_as<UInt32s>(&v) << 1 > 0xff000000u;
  const auto result = __builtin_convertvector(nan ? quiet : rounded, UInt16s);
  __builtin_memcpy(p, &result, sizeof(result));
}

inline void store(Half* p, Vec<float> v) {
#if defined(__AVX512F__)
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
#elif defined(__F16C__)
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
#else
  for (int i = 0; i < kLanes<float>; ++i) p[i] = narrow<Half>(v[i]);
#endif
}

// A store around the caches, for results larger than L2: no read for ownership, and the working set
// stays. p must be aligned to the vector; finish with stream_fence before another thread reads.
template <typename T>
inline void stream(T* p, Vec<Accumulator<T>> v) {
  store(p, v);
}
#if defined(__SSE2__)
inline void stream_bytes(void* p, __m128i v) { _mm_stream_si128(static_cast<__m128i*>(p), v); }
#if defined(__AVX__)
inline void stream_bytes(void* p, __m256i v) { _mm256_stream_si256(static_cast<__m256i*>(p), v); }
#endif
#if defined(__AVX512F__)
inline void stream_bytes(void* p, __m512i v) { _mm512_stream_si512(static_cast<__m512i*>(p), v); }
#endif
using Bytes = typename VecOf<long long, kVectorBytes / 8>::type;
template <>
inline void stream<float>(float* p, Vec<float> v) {
  stream_bytes(p, load_as<Bytes>(&v));
}
template <>
inline void stream<double>(double* p, Vec<double> v) {
  stream_bytes(p, load_as<Bytes>(&v));
}
inline void stream_fence() { _mm_sfence(); }
#else
inline void stream_fence() {}
#endif

// Asks for a line that is needed soon; an address past the end of anything is harmless.
inline void prefetch_l2(const void* p) { __builtin_prefetch(p, 0, 2); }

template <typename A>
inline Vec<A> broadcast(A value) {
  return value - Vec<A>{};  // x - 0 is x for every x, also for -0
}

// The first `count` elements, zeros after them.
template <typename T>
inline Vec<Accumulator<T>> load_part(const T* p, int64_t count) {
  if (count == kLanes<Accumulator<T>>) return load(p);
  T padded[kLanes<Accumulator<T>>] = {};
  for (int64_t i = 0; i < count; ++i) padded[i] = p[i];
  return load(padded);
}

template <typename T>
inline void store_part(T* p, Vec<Accumulator<T>> v, int64_t count) {
  if (count == kLanes<Accumulator<T>>) {
    store(p, v);
  } else {
    for (int64_t i = 0; i < count; ++i) p[i] = narrow<T>(v[i]);
  }
}

// v with zeros from lane `count` on; count may be larger than there are lanes.
template <typename A>
inline Vec<A> first_lanes(Vec<A> v, int32_t count) {
  using Int = std::conditional_t<sizeof(A) == 8, int64_t, int32_t>;
  using Ints = typename VecOf<Int, kLanes<A>>::type;
  Ints lane;
  for (int i = 0; i < kLanes<A>; ++i) lane[i] = i;
  return lane < (Ints{} + static_cast<Int>(count)) ? v : Vec<A>{};
}

// Sum of the lanes, halves added pairwise.
template <typename A, int lanes = kLanes<A>>
inline A sum_lanes(typename VecOf<A, lanes>::type v) {
  if constexpr (lanes * sizeof(A) > 16) {
    typename VecOf<A, lanes / 2>::type halves[2];
    __builtin_memcpy(halves, &v, sizeof(v));
    return sum_lanes<A, lanes / 2>(halves[0] + halves[1]);
  } else if constexpr (lanes == 4) {
    return (v[0] + v[2]) + (v[1] + v[3]);
  } else {
    return v[0] + v[1];
  }
}

}  // namespace
}  // namespace lets

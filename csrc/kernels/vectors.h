// Vectors as wide as the registers that the including file is compiled for. All of it has internal
// linkage: see the note in isa.h.
#pragma once
#include <cstdint>
#if defined(__F16C__)
#include <immintrin.h>
#endif

#include "kernels/convert.h"

namespace lets {
namespace {

#if defined(__AVX512F__)
constexpr int kVectorBytes = 64;
#elif defined(__AVX2__)
constexpr int kVectorBytes = 32;
#else
constexpr int kVectorBytes = 16;
#endif

template <typename Scalar, int Bytes = kVectorBytes>
struct VectorOf {
  typedef Scalar type __attribute__((vector_size(Bytes)));
};
template <typename Scalar>
using Vec = typename VectorOf<Scalar>::type;
template <typename Scalar>
constexpr int kLanes = kVectorBytes / static_cast<int>(sizeof(Scalar));

template <typename To, typename From>
inline To bits_as(From from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  __builtin_memcpy(&to, &from, sizeof(to));
  return to;
}

template <typename Scalar>
inline Vec<Scalar> broadcast(Scalar x) {
  return x - Vec<Scalar>{};
}

inline Vec<float> load(const float* p) {
  Vec<float> v;
  __builtin_memcpy(&v, p, sizeof(v));
  return v;
}
inline Vec<double> load(const double* p) {
  Vec<double> v;
  __builtin_memcpy(&v, p, sizeof(v));
  return v;
}
inline Vec<float> load(const BFloat16* p) {
  typename VectorOf<uint16_t, kVectorBytes / 2>::type bits;
  __builtin_memcpy(&bits, p, sizeof(bits));
  return bits_as<Vec<float>>(__builtin_convertvector(bits, Vec<uint32_t>) << 16);
}
inline Vec<float> load(const Half* p) {
#if defined(__AVX512F__)
  return bits_as<Vec<float>>(
      _mm512_maskz_cvtph_ps(0xffff, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))));
#elif defined(__F16C__) && defined(__AVX2__)
  return bits_as<Vec<float>>(_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
#else
  Vec<float> v;
  for (int i = 0; i < kLanes<float>; ++i) v[i] = widen(p[i]);
  return v;
#endif
}

// The first `count` elements, zeros after them.
template <typename T>
inline Vec<Accumulator<T>> load_part(const T* p, int64_t count) {
  if (count == kLanes<Accumulator<T>>) return load(p);
  T padded[kLanes<Accumulator<T>>] = {};
  for (int64_t i = 0; i < count; ++i) padded[i] = p[i];
  return load(padded);
}

// V is a vector of Accumulator<T>.
template <typename T, typename V>
inline void store(T* p, V v) {
  if constexpr (sizeof(T) == sizeof(Accumulator<T>)) {
    __builtin_memcpy(p, &v, sizeof(v));
  } else {
    for (int i = 0; i < kLanes<float>; ++i) p[i] = narrow<T>(v[i]);
  }
}

template <typename T, typename V>
inline void store_part(T* p, V v, int64_t count) {
  if (count == kLanes<Accumulator<T>>) {
    store(p, v);
  } else {
    for (int64_t i = 0; i < count; ++i) p[i] = narrow<T>(v[i]);
  }
}

// Sum of the lanes, halves added pairwise.
template <typename Scalar, int Bytes = kVectorBytes>
inline Scalar sum_lanes(typename VectorOf<Scalar, Bytes>::type v) {
  if constexpr (Bytes > 16) {
    typename VectorOf<Scalar, Bytes / 2>::type halves[2];
    __builtin_memcpy(halves, &v, sizeof(v));
    return sum_lanes<Scalar, Bytes / 2>(halves[0] + halves[1]);
  } else if constexpr (sizeof(Scalar) == 4) {
    v += __builtin_shufflevector(v, v, 2, 3, 0, 1);
    return v[0] + v[1];
  } else {
    return v[0] + v[1];
  }
}

inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

}  // namespace
}  // namespace lets

// exp and gelu over vectors; double precision goes through libm, lane by lane.
#pragma once
#include <math.h>

#include "kernels/simd.h"

namespace lets {
namespace {

template <typename V>
inline V horner(V x, V sum) {
  (void)x;
  return sum;
}
template <typename V, typename... Rest>
inline V horner(V x, V sum, float next, Rest... rest) {
  return horner(x, sum * x + next, rest...);
}

// exp for x <= 0 (or barely above), relative error below 2e-7; Cephes' expf polynomial. Underflows
// to 0 below 2^-126.
inline Vec<float> exp_nonpositive(Vec<float> x) {
  const Vec<float> clamped = x < -87.3f ? broadcast(-87.3f) : x;
  const float to_integer = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
  const Vec<float> shifted = clamped * 1.44269504f + to_integer;
  const Vec<float> n = shifted - to_integer;
  const Vec<float> r = (clamped - n * 0.693359375f) - n * -2.12194440e-4f;
  const Vec<float> tail = horner(r, broadcast(1.9875691500e-4f), 1.3981999507e-3f, 8.3334519073e-3f,
                                 4.1665795894e-2f, 1.6666665459e-1f, 5.0000001201e-1f);
  const Vec<float> value = tail * r * r + r + 1.0f;
  // n sits in the last bits of `shifted`: moved to the exponent's place they are 2^n.
  const auto power = (load_as<UInt32s>(&shifted) << 23) + (127u << 23);
  return x < -87.3f ? Vec<float>{} : value * load_as<Vec<float>>(&power);
}

inline Vec<double> exp_nonpositive(Vec<double> x) {
  for (int i = 0; i < kLanes<double>; ++i) x[i] = exp(x[i]);
  return x;
}

// What gelu and its slope are made of: a = |x|, bounded so that nothing becomes 0 * inf,
// exp(-a^2 / 2) and erfc(a / sqrt 2) / 2.
template <typename A>
struct NormalTail {
  Vec<A> a, bell, half_erfc;
};

// erfc: Abramowitz and Stegun 7.1.26, absolute error below 1.5e-7.
inline NormalTail<float> normal_tail(Vec<float> x) {
  const Vec<float> absolute = x < 0.0f ? -x : x;
  const Vec<float> a = absolute > 100.0f ? broadcast(100.0f) : absolute;
  const Vec<float> t = 1.0f / (a * 0.23164190f + 1.0f);
  const Vec<float> series =
      horner(t, broadcast(1.061405429f), -1.453152027f, 1.421413741f, -0.284496736f, 0.254829592f);
  const Vec<float> bell = exp_nonpositive(a * a * -0.5f);
  return {a, bell, t * series * bell * 0.5f};
}

inline NormalTail<double> normal_tail(Vec<double> x) {
  NormalTail<double> tail;
  for (int i = 0; i < kLanes<double>; ++i) {
    const double absolute = x[i] < 0 ? -x[i] : x[i], a = absolute > 100 ? 100 : absolute;
    tail.a[i] = a;
    tail.bell[i] = exp(-0.5 * a * a);
    tail.half_erfc[i] = 0.5 * erfc(a * 0.70710678118654752440);
  }
  return tail;
}

// gelu(x) = max(x, 0) - |x| erfc(|x| / sqrt 2) / 2, so that errors of erfc fade out where gelu(x) =
// x.
template <typename V>
inline V gelu_vector(V x) {
  const auto tail = normal_tail(x);
  return (x > 0 ? x : V{}) - tail.a * tail.half_erfc;
}

// Of gelu: the normal distribution function at x, and x times its density.
template <typename V>
inline V gelu_slope(V x) {
  const auto tail = normal_tail(x);
  const V signed_a = x > 0 ? tail.a : -tail.a;
  return (x > 0 ? 1 - tail.half_erfc : tail.half_erfc) +
         signed_a * tail.bell * static_cast<decltype(x[0] + 0)>(0.39894228040143267794);
}

}  // namespace
}  // namespace lets

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
  const Vec<float> n = (clamped * 1.44269504f + to_integer) - to_integer;
  const Vec<float> r = (clamped - n * 0.693359375f) - n * -2.12194440e-4f;
  const Vec<float> tail = horner(r, broadcast(1.9875691500e-4f), 1.3981999507e-3f, 8.3334519073e-3f,
                                 4.1665795894e-2f, 1.6666665459e-1f, 5.0000001201e-1f);
  const Vec<float> value = tail * r * r + r + 1.0f;
  const auto exponent =
      __builtin_convertvector(x == x ? n : Vec<float>{}, VecOf<int32_t, kLanes<float>>::type);
  const auto bits = (exponent + 127) << 23;
  const Vec<float> power = load_as<Vec<float>>(&bits);
  return x < -87.3f ? Vec<float>{} : value * power;
}

inline Vec<double> exp_nonpositive(Vec<double> x) {
  for (int i = 0; i < kLanes<double>; ++i) x[i] = exp(x[i]);
  return x;
}

// gelu(x) = max(x, 0) - |x| erfc(|x| / sqrt 2) / 2: what is subtracted is below 0.17, so its error
// stays below the rounding of the result. erfc: Numerical Recipes 6.2, relative error below 1.2e-7.
inline Vec<float> gelu_vector(Vec<float> x) {
  const Vec<float> absolute = x < 0.0f ? -x : x;
  const Vec<float> a = absolute > 100.0f ? broadcast(100.0f) : absolute;  // 0 * inf would be NaN
  const Vec<float> t = 1.0f / (a * 0.35355339059327f + 1.0f);
  const Vec<float> series =
      horner(t, broadcast(0.17087277f), -0.82215223f, 1.48851587f, -1.13520398f, 0.27886807f,
             -0.18628806f, 0.09678418f, 0.37409196f, 1.00002368f, -1.26551223f);
  const Vec<float> erfc = t * exp_nonpositive(series - a * a * 0.5f);
  return (x > 0.0f ? x : Vec<float>{}) - a * 0.5f * erfc;
}

inline Vec<double> gelu_vector(Vec<double> x) {
  for (int i = 0; i < kLanes<double>; ++i) {
    const double a = x[i] < 0 ? -x[i] : x[i], bounded = a > 100 ? 100 : a;
    x[i] = (x[i] > 0 ? x[i] : 0) - bounded * 0.5 * erfc(bounded * 0.70710678118654752440);
  }
  return x;
}

}  // namespace
}  // namespace lets

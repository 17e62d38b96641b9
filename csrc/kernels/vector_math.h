// exp and erf over vectors; double precision goes through libm, lane by lane.
#pragma once
#include <math.h>

#include "kernels/vectors.h"

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

// exp for x <= 0, relative error below 2e-7; Cephes' expf polynomial. Underflows to 0 below 2^-126.
inline Vec<float> exp_nonpositive(Vec<float> x) {
  const Vec<float> clamped = x < -87.3f ? broadcast(-87.3f) : x;
  const float to_integer = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
  const Vec<float> n = (clamped * 1.44269504f + to_integer) - to_integer;
  const Vec<float> r = (clamped - n * 0.693359375f) - n * -2.12194440e-4f;
  const Vec<float> tail = horner(r, broadcast(1.9875691500e-4f), 1.3981999507e-3f, 8.3334519073e-3f,
                                 4.1665795894e-2f, 1.6666665459e-1f, 5.0000001201e-1f);
  const Vec<float> value = tail * r * r + r + 1.0f;
  const auto exponent = __builtin_convertvector(x == x ? n : Vec<float>{}, Vec<int32_t>);
  const Vec<float> power = bits_as<Vec<float>>((exponent + 127) << 23);
  return x < -87.3f ? Vec<float>{} : value * power;
}

inline Vec<double> exp_nonpositive(Vec<double> x) {
  for (int i = 0; i < kLanes<double>; ++i) x[i] = exp(x[i]);
  return x;
}

// Rational approximation that Eigen and XLA use: absolute error below 3e-7, exactly +-1 from |x| =
// 4 on.
inline Vec<float> erf_vector(Vec<float> x) {
  const Vec<float> low = x < -4.0f ? broadcast(-4.0f) : x;
  const Vec<float> y = low > 4.0f ? broadcast(4.0f) : low;
  const Vec<float> y2 = y * y;
  const Vec<float> numerator =
      horner(y2, broadcast(-2.72614225801306e-10f), 2.77068142495902e-08f, -2.10102402082508e-06f,
             -5.69250639462346e-05f, -7.34990630326855e-04f, -2.95459980854025e-03f,
             -1.60960333262415e-02f);
  const Vec<float> denominator =
      horner(y2, broadcast(-1.45660718464996e-05f), -2.13374055278905e-04f, -1.68282697438203e-03f,
             -7.37332916720468e-03f, -1.42647390514189e-02f);
  const Vec<float> value = y * numerator / denominator;
  const Vec<float> below = x <= -4.0f ? broadcast(-1.0f) : value;
  return x >= 4.0f ? broadcast(1.0f) : below;
}

inline Vec<double> erf_vector(Vec<double> x) {
  for (int i = 0; i < kLanes<double>; ++i) x[i] = erf(x[i]);
  return x;
}

template <typename V>
inline V gelu_vector(V x) {
  return x * (erf_vector(x * 0.70710678118654752440) * 0.5 + 0.5);
}
inline Vec<float> gelu_vector(Vec<float> x) {
  return x * (erf_vector(x * 0.70710678118654752440f) * 0.5f + 0.5f);
}

}  // namespace
}  // namespace lets

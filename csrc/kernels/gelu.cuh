#pragma once
#include "kernels/gpu.h"

namespace lets::gpu {

// The exact one, with erf.
__device__ __forceinline__ float gelu(float x) {
  return 0.5f * x * (1.0f + erff(x * 0.70710678118654752f));
}

// Its slope: the normal distribution function at x, and x times its density.
__device__ __forceinline__ float gelu_slope(float x) {
  const float a = fminf(fmaxf(x, -100.0f), 100.0f);  // no infinity times 0; NaN stays below
  const float slope = 0.5f * (1.0f + erff(a * 0.70710678118654752f)) +
                      a * 0.39894228040143268f * expf(-0.5f * a * a);
  return x == x ? slope : x;
}

}  // namespace lets::gpu

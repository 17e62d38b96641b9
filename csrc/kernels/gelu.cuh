#pragma once
#include "kernels/gpu.h"

namespace lets::gpu {

// The exact one, with erf.
__device__ __forceinline__ float gelu(float x) {
  return 0.5f * x * (1.0f + erff(x * 0.70710678118654752f));
}

}  // namespace lets::gpu

// Sums over a block.
#pragma once
#include "kernels/gpu.h"

namespace lets::gpu {

// Sum over all threads of the block, given to each of them; scratch holds 33 floats. Ends with a
// barrier, so that scratch may be used again at once.
__device__ __forceinline__ float block_sum(float value, float* scratch) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, num_warps = blockDim.x / 32;
  value = warp_sum(value);
  if (lane == 0) scratch[warp] = value;
  __syncthreads();
  if (warp == 0) {
    const float total = warp_sum(lane < num_warps ? scratch[lane] : 0.0f);
    if (lane == 0) scratch[32] = total;
  }
  __syncthreads();
  const float total = scratch[32];
  __syncthreads();
  return total;
}

}  // namespace lets::gpu

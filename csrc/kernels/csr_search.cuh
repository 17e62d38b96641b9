#pragma once
#include "kernels/gpu.h"

namespace lets::gpu {

// The row of entry e: the last one of [begin, end) that starts at or before it.
__device__ __forceinline__ int row_of_entry(const int32_t* crow, int begin, int end, int e) {
  while (end - begin > 1) {
    const int middle = (begin + end) / 2;
    if (__ldg(crow + middle) <= e) {
      begin = middle;
    } else {
      end = middle;
    }
  }
  return begin;
}

}  // namespace lets::gpu

// out = gelu(x + bias) with the exact erf, bias per task. Torch-free.
#pragma once
#include <cstdint>

#include "kernels/dtypes.h"
#include "kernels/isa.h"

namespace lets {

template <typename T>
struct BiasGeluParams {
  const T* x;     // [T, N, F]
  const T* bias;  // [1|T, F]
  T* out;         // [T, N, F]
  int64_t num_tokens, features;
  int64_t bias_stride;  // from one task to the next; 0 where all tasks share
};

// Rows [begin, end) of [T * N, F].
template <Isa isa, typename T>
void bias_gelu_cpu(const BiasGeluParams<T>& p, int64_t begin, int64_t end);

}  // namespace lets

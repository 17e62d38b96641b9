// out = LayerNorm(x + residual + bias) * weight + norm_bias, with vectors per task. Torch-free.
#pragma once
#include <cstdint>

#include "kernels/dtypes.h"
#include "kernels/isa.h"

namespace lets {

template <typename T>
struct AddLayerNormParams {
  const T* x;            // [T, N, H]
  const T* residual;     // [1|T, N, H]
  const T* bias;         // [1|T, H] or null
  const T* weight;       // [1|T, H]
  const T* norm_bias;    // [1|T, H]
  T* out;                // [T, N, H]
  Accumulator<T>* mean;  // [T, N]
  Accumulator<T>* rstd;  // [T, N]
  int64_t num_tokens, hidden;
  // From one task to the next; 0 where all tasks share.
  int64_t residual_stride, bias_stride, weight_stride, norm_bias_stride;
  double eps;
};

// Rows [begin, end) of [T * N, H]; scratch holds H accumulators.
template <Isa isa, typename T>
void add_layer_norm_cpu(const AddLayerNormParams<T>& p, int64_t begin, int64_t end,
                        Accumulator<T>* scratch);

}  // namespace lets

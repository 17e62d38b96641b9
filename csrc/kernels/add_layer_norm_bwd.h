// Gradients of LayerNorm(x + residual + bias) * weight + norm_bias. Torch-free.
#pragma once
#include "kernels/add_layer_norm.h"
#include "kernels/column_splits.h"

namespace lets {

template <typename T>
struct AddLayerNormBwdParams {
  const T* grad;               // [T, N, H]
  const T* x;                  // [T, N, H]
  const T* residual;           // [1|T, N, H]
  const T* bias;               // [1|T, H] or null
  const T* weight;             // [1|T, H]
  const Accumulator<T>* mean;  // [T, N]
  const Accumulator<T>* rstd;  // [T, N]
  T* grad_x;                   // [T, N, H], also that of residual
  // Of weight, norm_bias and bias: sums over the tokens of a split. [3, splits, T, H]
  Accumulator<T>* sums;
  int64_t num_tasks, num_tokens, hidden;
  // From one task to the next; 0 where all tasks share.
  int64_t residual_stride, bias_stride, weight_stride;
};

// One split of one task: chunk = split * T + task. scratch holds 2 H accumulators.
template <Isa isa, typename T>
void add_layer_norm_bwd_cpu(const AddLayerNormBwdParams<T>& p, int64_t chunk,
                            Accumulator<T>* scratch);

}  // namespace lets

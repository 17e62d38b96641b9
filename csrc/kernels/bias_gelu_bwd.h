// Gradients of gelu(x + bias). Torch-free.
#pragma once
#include "kernels/bias_gelu.h"
#include "kernels/column_splits.h"

namespace lets {

template <typename T>
struct BiasGeluBwdParams {
  const T* grad;              // [T, N, F]
  const T* x;                 // [T, N, F]
  const T* bias;              // [1|T, F]
  T* grad_x;                  // [T, N, F]
  Accumulator<T>* grad_bias;  // [splits, T, F]: sums over the tokens of a split
  int64_t num_tasks, num_tokens, features;
  int64_t bias_stride;  // from one task to the next; 0 where all tasks share
};

// One split of one task: chunk = split * T + task.
template <Isa isa, typename T>
void bias_gelu_bwd_cpu(const BiasGeluBwdParams<T>& p, int64_t chunk);

}  // namespace lets

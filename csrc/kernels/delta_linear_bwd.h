// Gradient of the values of T sparse deltas, sampled at the mask (SDDMM). Torch-free.
#pragma once
#include "kernels/delta_linear.h"

namespace lets {

// out[e] = sum over tokens of grad[o(e)] * x[i(e)].
template <typename T>
struct DeltaLinearValuesParams {
  RowsView<const T> grad;   // [T, N, O]
  RowsView<const T> x;      // [T, N, I]
  const int32_t* crow;      // [T*O + 1]
  const int32_t* col;       // [nnz]
  Accumulator<T>* partial;  // [num_splits, nnz]
  T* out;                   // [nnz]
  int64_t num_tasks, num_tokens, in_features, out_features, nnz;
};

// Tokens are cut into splits by their number alone; partial sums are added in split order.
struct DeltaLinearValuesPlan {
  int64_t split_tokens, token_block, num_splits, num_parts, num_chunks;
  size_t scratch_bytes;
};

template <typename T>
DeltaLinearValuesPlan delta_linear_values_plan(const DeltaLinearValuesParams<T>& p,
                                               int64_t num_threads) {
  constexpr int64_t kStrip = 16, kOutputs = 16, kL2Bytes = 400 * 1024, kWorthAThread = 1 << 15;
  constexpr int64_t kAccumulatorBytes = sizeof(Accumulator<T>);
  DeltaLinearValuesPlan plan{};
  plan.split_tokens = 256;
  plan.num_splits = (p.num_tokens + plan.split_tokens - 1) / plan.split_tokens;
  plan.token_block = 128;
  while (plan.token_block > kStrip &&
         (plan.token_block * p.in_features * kAccumulatorBytes > kL2Bytes ||
          plan.token_block / 2 >= p.num_tokens))
    plan.token_block /= 2;
  // Few tokens: split the outputs, at the price of transposing x once per part.
  const int64_t work = plan.token_block * (p.num_tasks * p.out_features + p.nnz);
  plan.num_parts = 1;
  while (plan.num_parts * plan.num_splits < num_threads &&
         work > 2 * plan.num_parts * kWorthAThread &&
         p.out_features >= 8 * plan.num_parts * kOutputs)
    plan.num_parts *= 2;
  plan.num_chunks = plan.num_splits * plan.num_parts;
  plan.scratch_bytes =
      static_cast<size_t>(plan.token_block * (p.in_features + kOutputs) * kAccumulatorBytes);
  return plan;
}

// Fills partial[split] for the outputs of one chunk.
template <Isa isa, typename T>
void delta_linear_bwd_values_cpu(const DeltaLinearValuesParams<T>& p,
                                 const DeltaLinearValuesPlan& plan, int64_t chunk, void* scratch);

// out = sum of the partials.
template <Isa isa, typename T>
void delta_linear_reduce_values(const DeltaLinearValuesParams<T>& p,
                                const DeltaLinearValuesPlan& plan);

}  // namespace lets

// Y = Y0 + X . delta^T + bias for T sparse deltas of one shape, and both gradients. Torch-free.
#pragma once
#include <cstddef>
#include <cstdint>

#include "kernels/dtypes.h"
#include "kernels/isa.h"

namespace lets {

// A view of [tasks, rows, features] with unit stride in the last dimension; task_stride 0 = shared.
template <typename T>
struct RowsView {
  T* data;
  int64_t task_stride, row_stride;
};

template <typename T>
struct DeltaLinearParams {
  RowsView<const T> base;        // [T, N, O]; data may be null: zeros
  RowsView<const T> x;           // [T, N, I]
  const int32_t* crow;           // [T*O + 1]
  const int32_t* col;            // [nnz]
  const Accumulator<T>* values;  // [nnz]
  const T* bias;                 // [T, O] or null
  T* out;                        // [T, N, O]
  int64_t num_tasks, num_tokens, in_features, out_features;
};

// How the work is cut: by shape alone for its results, by thread count only where rows are few.
struct DeltaLinearPlan {
  int64_t token_block, num_blocks, num_parts, num_groups, num_chunks;
  size_t scratch_bytes;  // per thread, 64-byte aligned
};

template <typename T>
DeltaLinearPlan delta_linear_plan(const DeltaLinearParams<T>& p, int64_t num_threads) {
  DeltaLinearPlan plan{};
  plan.token_block = 16;
  plan.num_blocks = (p.num_tokens + plan.token_block - 1) / plan.token_block;
  plan.num_parts = 1;
  plan.num_groups = p.num_tasks;
  plan.num_chunks = plan.num_groups * plan.num_blocks;
  return plan;
}

template <Isa isa, typename T>
void delta_linear_cpu(const DeltaLinearParams<T>& p, const DeltaLinearPlan& plan, int64_t chunk,
                      void* scratch);

// out[i] = values[permutation[i]] (or values[i] without permutation) in the accumulator's type.
template <Isa isa, typename T>
void gather_values(const T* values, const int32_t* permutation, int64_t nnz, Accumulator<T>* out);

}  // namespace lets

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

// How the work is cut. Every output is one sum in the order of its row, so no choice here changes
// results.
struct DeltaLinearPlan {
  static constexpr int64_t kOutputGroup = 128;
  int64_t token_block, num_blocks, num_parts, tasks_per_group, num_chunks;
  size_t scratch_bytes;  // per thread, 64-byte aligned
  bool stream_stores;    // the result is larger than the caches near a core
};

// A vector of outputs that is a whole cache line is stored straight from registers: a strip of
// tokens at a time, which keeps x near L1. Half lines visited twice would fall out of L1 in between
// where rows are a multiple of 4 KB apart.
constexpr bool turns_in_registers(Isa isa) { return isa == Isa::kAvx512; }

template <Isa isa, typename T>
DeltaLinearPlan delta_linear_plan(const DeltaLinearParams<T>& p, int64_t nnz, int64_t num_threads) {
  constexpr int64_t kStrip = 16, kL2Bytes = 400 * 1024, kWorthAThread = 1 << 15;
  constexpr int64_t kStreamBytes = 4 << 20;
  DeltaLinearPlan plan{};
  const int64_t row_bytes = p.in_features * static_cast<int64_t>(sizeof(Accumulator<T>));
  // As many as the accumulators hold, if x still fits L2.
  plan.token_block = turns_in_registers(isa) ? kStrip : 4 * kStrip;
  while (plan.token_block > kStrip &&
         (plan.token_block * row_bytes > kL2Bytes || plan.token_block - kStrip >= p.num_tokens))
    plan.token_block -= kStrip;
  plan.num_blocks = (p.num_tokens + plan.token_block - 1) / plan.token_block;
  const bool shared_x = p.x.task_stride == 0;
  plan.tasks_per_group = shared_x ? p.num_tasks : 1;
  const int64_t groups = p.num_tasks / plan.tasks_per_group, pieces = groups * plan.num_blocks;
  // Few rows: split the outputs, at the price of transposing x once per part.
  const int64_t work = plan.token_block * (p.num_tasks * p.out_features + nnz);
  plan.num_parts = 1;
  while (plan.num_parts * pieces < num_threads && work > 2 * plan.num_parts * kWorthAThread &&
         p.out_features >= 2 * plan.num_parts * DeltaLinearPlan::kOutputGroup)
    plan.num_parts *= 2;
  plan.num_chunks = pieces * plan.num_parts;
  plan.stream_stores =
      p.num_tasks * p.num_tokens * p.out_features * static_cast<int64_t>(sizeof(T)) > kStreamBytes;
  const int64_t tile = DeltaLinearPlan::kOutputGroup * (plan.token_block + kStrip);
  plan.scratch_bytes = static_cast<size_t>(plan.token_block * row_bytes +
                                           tile * static_cast<int64_t>(sizeof(Accumulator<T>)));
  return plan;
}

template <Isa isa, typename T>
void delta_linear_cpu(const DeltaLinearParams<T>& p, const DeltaLinearPlan& plan, int64_t chunk,
                      void* scratch);

// out[i] = values[permutation[i]] (or values[i] without permutation) in the accumulator's type.
template <Isa isa, typename T>
void gather_values(const T* values, const int32_t* permutation, int64_t nnz, Accumulator<T>* out);

}  // namespace lets

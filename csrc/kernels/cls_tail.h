// What follows attention, for few rows of several tasks: the frozen weights are read once for all.
//   h = LN(residual + ctx W_O^T + b_O), out = LN(h + gelu(h W_1^T + b_1) W_2^T + b_2), each W with
//   its task's sparse delta. Torch-free.
#pragma once
#include <cstdint>

#include "kernels/dtypes.h"
#include "kernels/isa.h"

namespace lets {

template <typename T>
struct TaskVector {
  const T* data;   // [1|T, features]
  int64_t stride;  // 0: shared by all tasks
};

template <typename T>
struct TailLinear {
  const T* weight;      // [O, I]
  TaskVector<T> bias;   // O features
  const int32_t* crow;  // [T*O + 1] delta in CSR, or null
  const int32_t* col;   // [nnz]
  const T* values;      // [nnz]
  int64_t out_features, in_features;
};

// Elements from one row to the next of the activations. Rows that are a multiple of 4 KB apart
// share a few places of L1, where a tile's rows drive each other out: 67 GFLOP/s against 92 in a
// product of 3072 features with its weights in L2.
constexpr int64_t padded_row(int64_t features) { return (features + 15) / 16 * 16 + 48; }

template <typename T>
struct ClsTailParams {
  const T* residual;        // [1|T, M, H]
  int64_t residual_stride;  // 0: shared by all tasks
  TailLinear<T> attn, up, down;
  TaskVector<T> attn_norm_weight, attn_norm_bias, norm_weight, norm_bias;
  T* out;  // [T, M, H]
  // Workspace of T*M rows, each padded_row(.) from the next.
  Accumulator<T>* input;  // [T*M, H] ctx: pad_rows fills it
  Accumulator<T>* sums;   // [T*M, H]
  Accumulator<T>* h;      // [T*M, H]
  Accumulator<T>* inner;  // [T*M, F]
  int64_t num_tasks, num_rows, hidden, inner_features;
  double eps;
};

// One after the other; the chunks of one phase may run in any order and in parallel. A chunk is
// kTailPanel outputs of a linear phase, or all rows [begin, end) of a norm phase.
enum class TailPhase { kAttnOut, kAttnNorm, kUp, kDown, kNorm };
constexpr int64_t kTailPanel = 48;  // whole tiles and whole vectors

template <Isa isa, typename T>
void cls_tail_cpu(const ClsTailParams<T>& p, TailPhase phase, int64_t begin, int64_t end);

// Rows in the type that sums are kept in, padded.
template <Isa isa, typename T>
void pad_rows(const T* rows, int64_t num_rows, int64_t features, Accumulator<T>* out);

}  // namespace lets

// One query per sequence, head and task; keys and values of a task are never formed. Torch-free.
//   z = (W_K,h + D_K,h)^T q_h, scores = scale (q_h . key + z . x) + attn_bias, p = softmax over the
//   attended keys, px = p . x, ctx = p . value + (W_V,h + D_V,h) px + value_bias.
// The gradient has the same shape, with keys and values in each other's place. With g for q and the
// softmax's derivative for the softmax:
//   z = (W_V,h + D_V,h)^T g_h, dp = g_h . value + z . x, ds = scale p (dp - p . dp), px = ds . x,
//   dq = ds . key + (W_K,h + D_K,h) px.
#pragma once
#include <cstdint>

#include "kernels/dtypes.h"
#include "kernels/isa.h"

namespace lets {

// A view of [tasks, batch, tokens, features] with unit stride in the last dimension.
template <typename T>
struct TokensView {
  const T* data = nullptr;
  int64_t task_stride = 0;  // 0: shared by all tasks
  int64_t batch_stride = 0, token_stride = 0;
};

template <typename T>
struct ClsProjection {            // one of K and V
  TokensView<T> cached;           // [1|T, B, S, H] or null
  const T* weight = nullptr;      // [H, H], rows are output features; or null
  const int32_t* crow = nullptr;  // [T*H + 1] delta in CSR, or null
  const int32_t* col = nullptr;   // [nnz]
  const T* values = nullptr;      // [nnz]
};

template <typename T>
struct ClsAttentionParams {
  const T* q;       // [T, B, H]
  TokensView<T> x;  // [1|T, B, S, H]
  ClsProjection<T> key, value;
  const T* value_bias;      // [T, H] or null
  const uint8_t* key_mask;  // [B, S], non-zero = attend; or null
  const T* attn_bias;       // [A, S] or null
  T* out;                   // [T, B, H]
  Accumulator<T>* rows;     // [B, T, H] workspace: queries, then contexts
  Accumulator<T>* z;        // [B, T, A, H]; null without weight and delta of the keys
  Accumulator<T>* px;       // [B, T, A, H]; null without weight and delta of the values
  Accumulator<T>* probs;    // [B, T, A, S]
  int64_t num_tasks, batch, length, hidden, num_heads;
  int64_t rows_per_chunk;  // (task, head) rows that one chunk of the middle phase handles
  double scale;
  // [B, T, A, S] of the forward pass: computes the gradient, ds in place of probs; null: forward.
  const Accumulator<T>* forward_probs = nullptr;
};

// Three phases; the chunks of one phase may run in any order and in parallel. kQueries and kContext
// have one chunk per head; kScores has `ceil(rows / rows_per_chunk)` per sequence, where the rows
// are the (task, head) pairs that read the same tokens.
enum class ClsPhase { kQueries, kScores, kContext };

// The rows_per_chunk to use; the result does not depend on it.
template <Isa isa, typename T>
int64_t cls_attention_plan(const ClsAttentionParams<T>& p, int64_t num_threads);

template <Isa isa, typename T>
void cls_attention_cpu(const ClsAttentionParams<T>& p, ClsPhase phase, int64_t chunk);

}  // namespace lets

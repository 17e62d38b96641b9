#include "kernels/cls_attention.h"

#include "kernels/tiles.h"
#include "kernels/vector_math.h"

namespace lets {
namespace {

// z of one head for all rows [B, T]: the weight's rows of the head are read once.
template <typename T>
void head_queries(const ClsAttentionParams<T>& p, int64_t head) {
  using A = Accumulator<T>;
  const int64_t dim = p.hidden / p.num_heads, first = head * dim, num_rows = p.batch * p.num_tasks;
  for (int64_t t = 0; t < p.num_tasks; ++t) {
    for (int64_t b = 0; b < p.batch; ++b) {
      const T* q = p.q + (t * p.batch + b) * p.hidden + first;
      A* row = p.rows + (b * p.num_tasks + t) * p.hidden + first;
      for (int64_t d = 0; d < dim; ++d) row[d] = widen(q[d]);
    }
  }
  if (!p.z) return;
  const int64_t z_stride = p.num_heads * p.hidden;
  A* z = p.z + head * p.hidden;
  if (p.key.weight) {
    axpy_product<T>(p.rows + first, p.hidden, num_rows, p.key.weight + first * p.hidden, p.hidden,
                    p.hidden, dim, z, z_stride);
  } else {
    for (int64_t r = 0; r < num_rows; ++r) {
      for (int64_t i = 0; i < p.hidden; ++i) z[r * z_stride + i] = 0;
    }
  }
  if (!p.key.crow) return;
  for (int64_t t = 0; t < p.num_tasks; ++t) {
    const int32_t* crow = p.key.crow + t * p.hidden;
    for (int64_t b = 0; b < p.batch; ++b) {
      const int64_t r = b * p.num_tasks + t;
      for (int64_t o = first; o < first + dim; ++o) {
        const A q = p.rows[r * p.hidden + o];
        for (int32_t e = crow[o]; e < crow[o + 1]; ++e)
          z[r * z_stride + p.key.col[e]] += q * widen(p.key.values[e]);
      }
    }
  }
}

// Context of one head for all rows: cached part + (W_V,h + D_V,h) px + bias.
template <typename T>
void head_context(const ClsAttentionParams<T>& p, int64_t head) {
  using A = Accumulator<T>;
  const int64_t dim = p.hidden / p.num_heads, first = head * dim, num_rows = p.batch * p.num_tasks;
  const int64_t px_stride = p.num_heads * p.hidden;
  const A* px = p.px ? p.px + head * p.hidden : nullptr;
  if (p.value.weight) {
    dot_product<T>(px, px_stride, num_rows, p.value.weight + first * p.hidden, p.hidden, dim,
                   p.hidden,
                   [&](int64_t r, int64_t d, A sum) { p.rows[r * p.hidden + first + d] += sum; });
  }
  for (int64_t t = 0; t < p.num_tasks; ++t) {
    const int32_t* crow = p.value.crow ? p.value.crow + t * p.hidden : nullptr;
    for (int64_t b = 0; b < p.batch; ++b) {
      const int64_t r = b * p.num_tasks + t;
      T* out = p.out + (t * p.batch + b) * p.hidden;
      for (int64_t o = first; o < first + dim; ++o) {
        A sum = p.rows[r * p.hidden + o];
        for (int32_t e = crow ? crow[o] : 0; crow && e < crow[o + 1]; ++e)
          sum += widen(p.value.values[e]) * px[r * px_stride + p.value.col[e]];
        if (p.value_bias) sum += widen(p.value_bias[t * p.hidden + o]);
        out[o] = narrow<T>(sum);
      }
    }
  }
}

// Softmax over the attended ones of `valid` scores. A row that attends to nothing becomes zeros.
template <typename A>
void masked_softmax(A* scores, const uint8_t* mask, int64_t valid) {
  A largest = -__builtin_inff();
  int64_t attended = 0;
  for (int64_t s = 0; s < valid; ++s) {
    if (mask && !mask[s]) continue;
    ++attended;
    largest = scores[s] > largest ? scores[s] : largest;
  }
  A total = 0;
  for (int64_t s = 0; s < valid; s += kLanes<A>) {
    const int64_t count = smaller(kLanes<A>, valid - s);
    Vec<A> e = exp_nonpositive(load_part(scores + s, count) - largest);
    for (int64_t i = 0; i < count; ++i) {
      scores[s + i] = mask && !mask[s + i] ? A(0) : e[i];
      total += scores[s + i];
    }
  }
  const A inverse = attended ? 1 / total : A(0);
  for (int64_t s = 0; s < valid; ++s) scores[s] = attended ? scores[s] * inverse : A(0);
}

// scores * p - p (p . scores), in place; keys that are not attended to have no p.
template <typename A>
void softmax_gradient(A* scores, const A* probs, const uint8_t* mask, int64_t valid) {
  A mean = 0;
  for (int64_t s = 0; s < valid; ++s) mean += mask && !mask[s] ? A(0) : probs[s] * scores[s];
  for (int64_t s = 0; s < valid; ++s)
    scores[s] = mask && !mask[s] ? A(0) : probs[s] * (scores[s] - mean);
}

// Scores, softmax, p . x and p . value of a group of (task, head) rows that read the same tokens.
template <typename T>
void scores_chunk(const ClsAttentionParams<T>& p, int64_t chunk) {
  using A = Accumulator<T>;
  const bool shared = p.x.task_stride == 0;
  const int64_t rows = shared ? p.num_tasks * p.num_heads : p.num_heads;
  const int64_t groups = (rows + p.rows_per_chunk - 1) / p.rows_per_chunk;
  const int64_t begin = chunk % groups * p.rows_per_chunk;
  const int64_t count = smaller(p.rows_per_chunk, rows - begin);
  const int64_t sequence =
      chunk / groups;  // b, or b * T + t where every task has tokens of its own
  const int64_t b = shared ? sequence : sequence / p.num_tasks;
  const int64_t first = sequence * rows + begin;  // row of [B, T, A]
  const int64_t dim = p.hidden / p.num_heads;
  const uint8_t* mask = p.key_mask ? p.key_mask + b * p.length : nullptr;
  int64_t valid = p.length;
  while (mask && valid > 0 && !mask[valid - 1]) --valid;

  const T* x =
      p.x.data + b * p.x.batch_stride + (shared ? 0 : sequence % p.num_tasks) * p.x.task_stride;
  A* probs = p.probs + first * p.length;
  const A scale = static_cast<A>(p.scale);
  if (p.z) {
    dot_product<T>(p.z + first * p.hidden, p.hidden, count, x, p.x.token_stride, valid, p.hidden,
                   [&](int64_t r, int64_t s, A sum) { probs[r * p.length + s] = sum; });
  }
  for (int64_t r = 0; r < count; ++r) {
    const int64_t head = (first + r) % p.num_heads, row = (first + r) / p.num_heads;
    const int64_t offset =
        b * p.key.cached.batch_stride + row % p.num_tasks * p.key.cached.task_stride;
    A* scores = probs + r * p.length;
    if (!p.z) {
      for (int64_t s = 0; s < valid; ++s) scores[s] = 0;
    }
    if (p.key.cached.data) {
      dot_product<T>(p.rows + row * p.hidden + head * dim, 0, 1,
                     p.key.cached.data + offset + head * dim, p.key.cached.token_stride, valid, dim,
                     [&](int64_t, int64_t s, A sum) { scores[s] += sum; });
    }
    for (int64_t s = 0; s < valid; ++s) {
      scores[s] *= scale;
      if (p.attn_bias) scores[s] += widen(p.attn_bias[head * p.length + s]);
    }
    if (p.forward_probs) {
      softmax_gradient(scores, p.forward_probs + (first + r) * p.length, mask, valid);
    } else {
      masked_softmax(scores, mask, valid);
    }
    for (int64_t s = valid; s < p.length; ++s) scores[s] = 0;
  }
  if (p.px) {
    axpy_product<T>(probs, p.length, count, x, p.x.token_stride, p.hidden, valid,
                    p.px + first * p.hidden, p.hidden);
  }
  for (int64_t r = 0; r < count; ++r) {
    const int64_t head = (first + r) % p.num_heads, row = (first + r) / p.num_heads;
    const TokensView<T>& v = p.value.cached;
    A* context = p.rows + row * p.hidden + head * dim;  // the query of this head is spent
    if (v.data) {
      const int64_t offset = b * v.batch_stride + row % p.num_tasks * v.task_stride + head * dim;
      axpy_product<T>(probs + r * p.length, p.length, 1, v.data + offset, v.token_stride, dim,
                      valid, context, dim);
    } else {
      for (int64_t d = 0; d < dim; ++d) context[d] = 0;
    }
  }
}

}  // namespace

template <Isa isa, typename T>
int64_t cls_attention_plan(const ClsAttentionParams<T>& p, int64_t num_threads) {
  const bool shared = p.x.task_stride == 0;
  const int64_t rows = shared ? p.num_tasks * p.num_heads : p.num_heads;
  const int64_t sequences = shared ? p.batch : p.batch * p.num_tasks;
  // Few sequences: cut the heads so that every thread has work. Many: read a sequence's tokens
  // once.
  const int64_t tile = balanced_rows(rows);
  return sequences >= 2 * num_threads ? smaller(rows, 4 * tile) : tile;
}

template <Isa isa, typename T>
void cls_attention_cpu(const ClsAttentionParams<T>& p, ClsPhase phase, int64_t chunk) {
  if (phase == ClsPhase::kQueries) head_queries(p, chunk);
  if (phase == ClsPhase::kScores) scores_chunk(p, chunk);
  if (phase == ClsPhase::kContext) head_context(p, chunk);
}

#define LETS_INSTANTIATE(T)                                                            \
  template int64_t cls_attention_plan<kIsa, T>(const ClsAttentionParams<T>&, int64_t); \
  template void cls_attention_cpu<kIsa, T>(const ClsAttentionParams<T>&, ClsPhase, int64_t);
LETS_INSTANTIATE(float)
LETS_INSTANTIATE(double)
LETS_INSTANTIATE(Half)
LETS_INSTANTIATE(BFloat16)
#undef LETS_INSTANTIATE

}  // namespace lets

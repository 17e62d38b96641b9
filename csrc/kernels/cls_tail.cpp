#include "kernels/cls_tail.h"

#include "kernels/row_math.h"
#include "kernels/tiles.h"
#include "kernels/vector_math.h"

namespace lets {
namespace {

// From so many rows of a task on, its deltas are put into a copy of the weights instead of being
// added afterwards: a patch costs each entry once, not once per row.
constexpr int64_t kPatchRows = 4;

// Sum over a delta's row of values[e] * row[col[e]]; two chains, because one waits for each
// addition.
template <typename T>
inline Accumulator<T> sparse_dot(const T* values, const int32_t* col, int64_t count,
                                 const Accumulator<T>* row) {
  Accumulator<T> even = 0, odd = 0;
  int64_t e = 0;
  for (; e + 2 <= count; e += 2) {
    even += widen(values[e]) * row[col[e]];
    odd += widen(values[e + 1]) * row[col[e + 1]];
  }
  if (e < count) even += widen(values[e]) * row[col[e]];
  return even + odd;
}

// out[:, begin:end] = rows (W + delta)^T: all tasks share the weights, deltas are added to the
// result.
template <typename T>
void shared_panel(const TailLinear<T>& linear, const Accumulator<T>* rows, int64_t num_tasks,
                  int64_t num_rows, int64_t begin, int64_t end, Accumulator<T>* out) {
  using A = Accumulator<T>;
  const int64_t in = linear.in_features, ld = linear.out_features;
  dot_product<T>(rows, in, num_tasks * num_rows, linear.weight + begin * in, in, end - begin, in,
                 [&](int64_t r, int64_t n, A sum) { out[r * ld + begin + n] = sum; });
  if (!linear.crow) return;
  for (int64_t r = 0; r < num_tasks * num_rows; ++r) {
    const int32_t* crow = linear.crow + r / num_rows * ld;
    for (int64_t o = begin; o < end; ++o) {
      const int64_t e = crow[o];
      out[r * ld + o] +=
          sparse_dot(linear.values + e, linear.col + e, crow[o + 1] - e, rows + r * in);
    }
  }
}

// The same, three outputs at a time: a widened copy of their weights gets one task's deltas, serves
// its rows and is put back.
template <typename T>
void patched_panel(const TailLinear<T>& linear, const Accumulator<T>* rows, int64_t num_tasks,
                   int64_t num_rows, int64_t begin, int64_t end, Accumulator<T>* out,
                   Accumulator<T>* copy) {
  using A = Accumulator<T>;
  const int64_t in = linear.in_features, ld = linear.out_features;
  for (int64_t first = begin; first < end; first += kTileCols) {
    const int64_t count = smaller(kTileCols, end - first);
    const T* weight = linear.weight + first * in;
    for (int64_t i = 0; i < count * in; ++i) copy[i] = widen(weight[i]);
    for (int64_t t = 0; t < num_tasks; ++t) {
      const int32_t* crow = linear.crow + t * ld + first;
      for (int64_t n = 0; n < count; ++n) {
        for (int32_t e = crow[n]; e < crow[n + 1]; ++e)
          copy[n * in + linear.col[e]] += widen(linear.values[e]);
      }
      A* task_out = out + t * num_rows * ld + first;
      dot_product<A>(rows + t * num_rows * in, in, num_rows, copy, in, count, in,
                     [&](int64_t r, int64_t n, A sum) { task_out[r * ld + n] = sum; });
      for (int64_t n = 0; n < count; ++n) {
        for (int32_t e = crow[n]; e < crow[n + 1]; ++e) {
          const int64_t i = n * in + linear.col[e];
          copy[i] = widen(weight[i]);
        }
      }
    }
  }
}

template <typename T>
void linear_panel(const TailLinear<T>& linear, const Accumulator<T>* rows, int64_t num_tasks,
                  int64_t num_rows, int64_t begin, int64_t end, Accumulator<T>* out,
                  Accumulator<T>* scratch) {
  if (linear.crow && num_rows >= kPatchRows) {
    patched_panel(linear, rows, num_tasks, num_rows, begin, end, out, scratch);
  } else {
    shared_panel(linear, rows, num_tasks, num_rows, begin, end, out);
  }
  for (int64_t r = 0; r < num_tasks * num_rows; ++r) {
    const T* bias = linear.bias.data + r / num_rows * linear.bias.stride;
    for (int64_t o = begin; o < end; ++o) out[r * linear.out_features + o] += widen(bias[o]);
  }
}

// out = LN(sums), row by row.
template <typename T, typename Out>
void norm_rows(const ClsTailParams<T>& p, const TaskVector<T>& weight, const TaskVector<T>& bias,
               int64_t begin, int64_t end, Out* out) {
  using A = Accumulator<T>;
  for (int64_t r = begin; r < end; ++r) {
    const int64_t task = r / p.num_rows;
    const A* row = p.sums + r * p.hidden;
    normalize_row(row, row_moments(row, p.hidden, static_cast<A>(p.eps)),
                  weight.data + task * weight.stride, bias.data + task * bias.stride, p.hidden,
                  out + r * p.hidden);
  }
}

template <typename T>
void attn_out_panel(const ClsTailParams<T>& p, int64_t begin, int64_t end,
                    Accumulator<T>* scratch) {
  linear_panel(p.attn, p.input, p.num_tasks, p.num_rows, begin, end, p.sums, scratch);
  for (int64_t r = 0; r < p.num_tasks * p.num_rows; ++r) {
    const T* residual = p.residual + r / p.num_rows * p.residual_stride + r % p.num_rows * p.hidden;
    for (int64_t o = begin; o < end; ++o) p.sums[r * p.hidden + o] += widen(residual[o]);
  }
}

template <typename T>
void up_panel(const ClsTailParams<T>& p, int64_t begin, int64_t end, Accumulator<T>* scratch) {
  using A = Accumulator<T>;
  linear_panel(p.up, p.h, p.num_tasks, p.num_rows, begin, end, p.inner, scratch);
  for (int64_t r = 0; r < p.num_tasks * p.num_rows; ++r) {
    A* row = p.inner + r * p.inner_features + begin;
    for_lanes<A>(end - begin, [&](int64_t i, int64_t count) {
      store_part(row + i, gelu_vector(load_part(row + i, count)), count);
    });
  }
}

template <typename T>
void down_panel(const ClsTailParams<T>& p, int64_t begin, int64_t end, Accumulator<T>* scratch) {
  linear_panel(p.down, p.inner, p.num_tasks, p.num_rows, begin, end, p.sums, scratch);
  for (int64_t r = 0; r < p.num_tasks * p.num_rows; ++r) {
    const int64_t row = r * p.hidden;
    for (int64_t o = begin; o < end; ++o) p.sums[row + o] += p.h[row + o];
  }
}

}  // namespace

template <Isa isa, typename T>
void cls_tail_cpu(const ClsTailParams<T>& p, TailPhase phase, int64_t begin, int64_t end,
                  Accumulator<T>* scratch) {
  switch (phase) {
    case TailPhase::kAttnOut:
      return attn_out_panel(p, begin, end, scratch);
    case TailPhase::kAttnNorm:
      return norm_rows(p, p.attn_norm_weight, p.attn_norm_bias, begin, end, p.h);
    case TailPhase::kUp:
      return up_panel(p, begin, end, scratch);
    case TailPhase::kDown:
      return down_panel(p, begin, end, scratch);
    case TailPhase::kNorm:
      return norm_rows(p, p.norm_weight, p.norm_bias, begin, end, p.out);
  }
}

// Rows in the type that sums are kept in.
template <Isa isa, typename T>
void widen_rows(const T* rows, int64_t n, Accumulator<T>* out) {
  for (int64_t i = 0; i < n; ++i) out[i] = widen(rows[i]);
}

template void cls_tail_cpu<kIsa>(const ClsTailParams<float>&, TailPhase, int64_t, int64_t, float*);
template void cls_tail_cpu<kIsa>(const ClsTailParams<double>&, TailPhase, int64_t, int64_t,
                                 double*);
template void cls_tail_cpu<kIsa>(const ClsTailParams<Half>&, TailPhase, int64_t, int64_t, float*);
template void cls_tail_cpu<kIsa>(const ClsTailParams<BFloat16>&, TailPhase, int64_t, int64_t,
                                 float*);
template void widen_rows<kIsa>(const Half*, int64_t, float*);
template void widen_rows<kIsa>(const BFloat16*, int64_t, float*);

}  // namespace lets

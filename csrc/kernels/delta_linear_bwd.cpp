#include "kernels/delta_linear_bwd.h"

#include "kernels/token_block.h"

namespace lets {
namespace {

constexpr int kOutputs = 16;  // outputs whose gradients are turned to feature-major at a time

// Zeros where pack_tokens repeats the last token, because sums run over the padding.
template <typename A>
inline void clear_padding(A* packed, int64_t features, int64_t tokens, int64_t padded,
                          int64_t stride) {
  if (tokens == padded) return;
  for (int64_t k = 0; k < features; ++k)
    for (int64_t t = tokens; t < padded; ++t) packed[k * stride + t] = A(0);
}

// Two sums, so that one addition need not wait for the other; padded is a multiple of kStrip.
template <typename A>
inline A dot(const A* a, const A* b, int64_t padded) {
  constexpr int W = kLanes<A>;
  Vec<A> even{}, odd{};
  int64_t t = 0;
  for (; t + 2 * W <= padded; t += 2 * W) {
    even += load(a + t) * load(b + t);
    odd += load(a + t + W) * load(b + t + W);
  }
  if (t < padded) even += load(a + t) * load(b + t);
  return sum_lanes<A, W>(even + odd);
}

}  // namespace

// x of a block of tokens is turned to feature-major once; then an entry's gradient is a dot product
// of two contiguous rows.
template <Isa isa, typename T>
void delta_linear_bwd_values_cpu(const DeltaLinearValuesParams<T>& p,
                                 const DeltaLinearValuesPlan& plan, int64_t chunk, void* scratch) {
  using A = Accumulator<T>;
  const int64_t split = chunk / plan.num_parts, part = chunk % plan.num_parts;
  const int64_t first = p.out_features * part / plan.num_parts;
  const int64_t last = p.out_features * (part + 1) / plan.num_parts;
  const int64_t begin = split * plan.split_tokens, stride = plan.token_block;
  const int64_t end =
      begin + plan.split_tokens < p.num_tokens ? begin + plan.split_tokens : p.num_tokens;
  A* grad = static_cast<A*>(scratch);
  A* x = grad + kOutputs * stride;
  A* partial = p.partial + split * p.nnz;
  for (int64_t n = begin; n < end; n += stride) {
    const int64_t tokens = end - n < stride ? end - n : stride;
    const int64_t padded = (tokens + kStrip - 1) / kStrip * kStrip;
    for (int64_t task = 0; task < p.num_tasks; ++task) {
      if (task == 0 || p.x.task_stride != 0) {
        pack_tokens(p.x.data + task * p.x.task_stride + n * p.x.row_stride, p.x.row_stride, tokens,
                    p.in_features, x, stride);
        clear_padding(x, p.in_features, tokens, padded, stride);
      }
      const T* rows = p.grad.data + task * p.grad.task_stride + n * p.grad.row_stride;
      const int32_t* crow = p.crow + task * p.out_features;
      for (int64_t o = first; o < last; o += kOutputs) {
        const int64_t outputs = last - o < kOutputs ? last - o : kOutputs;
        if (crow[o] == crow[o + outputs]) continue;
        pack_tokens(rows + o, p.grad.row_stride, tokens, outputs, grad, stride);
        clear_padding(grad, outputs, tokens, padded, stride);
        for (int64_t i = 0; i < outputs; ++i)
          for (int32_t e = crow[o + i]; e < crow[o + i + 1]; ++e) {
            const A sum = dot(grad + i * stride, x + p.col[e] * stride, padded);
            partial[e] = n == begin ? sum : partial[e] + sum;
          }
      }
    }
  }
}

template <Isa isa, typename T>
void delta_linear_reduce_values(const DeltaLinearValuesParams<T>& p,
                                const DeltaLinearValuesPlan& plan) {
  for (int64_t e = 0; e < p.nnz; ++e) {
    Accumulator<T> sum = 0;
    for (int64_t split = 0; split < plan.num_splits; ++split) sum += p.partial[split * p.nnz + e];
    p.out[e] = narrow<T>(sum);
  }
}

#define LETS_INSTANTIATE(T)                                                             \
  template void delta_linear_bwd_values_cpu<kIsa, T>(                                   \
      const DeltaLinearValuesParams<T>&, const DeltaLinearValuesPlan&, int64_t, void*); \
  template void delta_linear_reduce_values<kIsa, T>(const DeltaLinearValuesParams<T>&,  \
                                                    const DeltaLinearValuesPlan&);
LETS_INSTANTIATE(float)
LETS_INSTANTIATE(double)
LETS_INSTANTIATE(Half)
LETS_INSTANTIATE(BFloat16)
#undef LETS_INSTANTIATE

}  // namespace lets

#include "kernels/add_layer_norm.h"

#include "kernels/row_math.h"

namespace lets {

template <Isa isa, typename T>
void add_layer_norm_cpu(const AddLayerNormParams<T>& p, int64_t begin, int64_t end,
                        Accumulator<T>* scratch) {
  using A = Accumulator<T>;
  for (int64_t r = begin; r < end; ++r) {
    const int64_t task = r / p.num_tokens, token = r % p.num_tokens;
    const T* x = p.x + r * p.hidden;
    const T* residual = p.residual + task * p.residual_stride + token * p.hidden;
    const T* bias = p.bias ? p.bias + task * p.bias_stride : nullptr;
    for_lanes<A>(p.hidden, [&](int64_t i, auto count) {
      Vec<A> sum = load_part(x + i, count) + load_part(residual + i, count);
      if (bias) sum += load_part(bias + i, count);
      store_part(scratch + i, sum, count);
    });
    const Moments<A> moments = row_moments(scratch, p.hidden, static_cast<A>(p.eps));
    p.mean[r] = moments.mean;
    p.rstd[r] = moments.rstd;
    normalize_row(scratch, moments, p.weight + task * p.weight_stride,
                  p.norm_bias + task * p.norm_bias_stride, p.hidden, p.out + r * p.hidden);
  }
}

template void add_layer_norm_cpu<kIsa>(const AddLayerNormParams<float>&, int64_t, int64_t, float*);
template void add_layer_norm_cpu<kIsa>(const AddLayerNormParams<double>&, int64_t, int64_t,
                                       double*);
template void add_layer_norm_cpu<kIsa>(const AddLayerNormParams<Half>&, int64_t, int64_t, float*);
template void add_layer_norm_cpu<kIsa>(const AddLayerNormParams<BFloat16>&, int64_t, int64_t,
                                       float*);

}  // namespace lets

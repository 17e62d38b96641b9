#include "kernels/add_layer_norm_bwd.h"

#include "kernels/row_math.h"

namespace lets {

template <Isa isa, typename T>
void add_layer_norm_bwd_cpu(const AddLayerNormBwdParams<T>& p, int64_t chunk,
                            Accumulator<T>* scratch) {
  using A = Accumulator<T>;
  const int64_t task = chunk % p.num_tasks, begin = chunk / p.num_tasks * kSplitTokens;
  const int64_t end = begin + kSplitTokens < p.num_tokens ? begin + kSplitTokens : p.num_tokens;
  const int64_t size = num_splits(p.num_tokens) * p.num_tasks * p.hidden;
  A* grad_weight = p.sums + chunk * p.hidden;
  A* grad_norm_bias = grad_weight + size;
  A* grad_bias = grad_norm_bias + size;
  A* scaled = scratch;  // the gradient of the normed row
  A* normed = scratch + p.hidden;
  const T* bias = p.bias ? p.bias + task * p.bias_stride : nullptr;
  const T* weight = p.weight + task * p.weight_stride;
  const auto add = [](A* sum, Vec<A> value, auto count) {
    store_part(sum, load_part(sum, count) + value, count);
  };
  for (int64_t i = 0; i < p.hidden; ++i) grad_weight[i] = grad_norm_bias[i] = grad_bias[i] = 0;
  for (int64_t token = begin; token < end; ++token) {
    const int64_t r = task * p.num_tokens + token;
    const T* grad = p.grad + r * p.hidden;
    const T* x = p.x + r * p.hidden;
    const T* residual = p.residual + task * p.residual_stride + token * p.hidden;
    const A mean = p.mean[r], rstd = p.rstd[r];
    // Lanes past the end hold no row, but mean is not 0 there: their gradient is.
    Vec<A> sum = {}, product = {};
    for_lanes<A>(p.hidden, [&](int64_t i, auto count) {
      Vec<A> row = load_part(x + i, count) + load_part(residual + i, count);
      if (bias) row += load_part(bias + i, count);
      const Vec<A> y = (row - mean) * rstd, g = load_part(grad + i, count);
      const Vec<A> gw = g * load_part(weight + i, count);
      sum += gw;
      product += gw * y;
      store_part(scaled + i, gw, count);
      store_part(normed + i, y, count);
      add(grad_weight + i, g * y, count);
      add(grad_norm_bias + i, g, count);
    });
    const A h = static_cast<A>(p.hidden);
    const A mean_sum = sum_lanes<A>(sum) / h, mean_product = sum_lanes<A>(product) / h;
    for_lanes<A>(p.hidden, [&](int64_t i, auto count) {
      const Vec<A> y = load_part(normed + i, count);
      const Vec<A> g = (load_part(scaled + i, count) - mean_sum - y * mean_product) * rstd;
      store_part(p.grad_x + r * p.hidden + i, g, count);
      add(grad_bias + i, g, count);
    });
  }
}

template void add_layer_norm_bwd_cpu<kIsa>(const AddLayerNormBwdParams<float>&, int64_t, float*);
template void add_layer_norm_bwd_cpu<kIsa>(const AddLayerNormBwdParams<double>&, int64_t, double*);
template void add_layer_norm_bwd_cpu<kIsa>(const AddLayerNormBwdParams<Half>&, int64_t, float*);
template void add_layer_norm_bwd_cpu<kIsa>(const AddLayerNormBwdParams<BFloat16>&, int64_t, float*);

}  // namespace lets

#include "kernels/bias_gelu_bwd.h"

#include "kernels/row_math.h"
#include "kernels/vector_math.h"

namespace lets {

template <Isa isa, typename T>
void bias_gelu_bwd_cpu(const BiasGeluBwdParams<T>& p, int64_t chunk) {
  using A = Accumulator<T>;
  const int64_t task = chunk % p.num_tasks, begin = chunk / p.num_tasks * kSplitTokens;
  const int64_t end = begin + kSplitTokens < p.num_tokens ? begin + kSplitTokens : p.num_tokens;
  const T* bias = p.bias + task * p.bias_stride;
  A* sums = p.grad_bias + chunk * p.features;
  for (int64_t i = 0; i < p.features; ++i) sums[i] = 0;
  for (int64_t token = begin; token < end; ++token) {
    const int64_t row = (task * p.num_tokens + token) * p.features;
    for_lanes<A>(p.features, [&](int64_t i, auto count) {
      const Vec<A> sum = load_part(p.x + row + i, count) + load_part(bias + i, count);
      const Vec<A> grad = load_part(p.grad + row + i, count) * gelu_slope(sum);
      store_part(p.grad_x + row + i, grad, count);
      store_part(sums + i, load_part(sums + i, count) + grad, count);
    });
  }
}

template void bias_gelu_bwd_cpu<kIsa>(const BiasGeluBwdParams<float>&, int64_t);
template void bias_gelu_bwd_cpu<kIsa>(const BiasGeluBwdParams<double>&, int64_t);
template void bias_gelu_bwd_cpu<kIsa>(const BiasGeluBwdParams<Half>&, int64_t);
template void bias_gelu_bwd_cpu<kIsa>(const BiasGeluBwdParams<BFloat16>&, int64_t);

}  // namespace lets

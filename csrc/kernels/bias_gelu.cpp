#include "kernels/bias_gelu.h"

#include "kernels/row_math.h"
#include "kernels/vector_math.h"

namespace lets {

template <Isa isa, typename T>
void bias_gelu_cpu(const BiasGeluParams<T>& p, int64_t begin, int64_t end) {
  using A = Accumulator<T>;
  for (int64_t r = begin; r < end; ++r) {
    const T* x = p.x + r * p.features;
    const T* bias = p.bias + r / p.num_tokens * p.bias_stride;
    T* out = p.out + r * p.features;
    for_lanes<A>(p.features, [&](int64_t i, auto count) {
      const Vec<A> sum = load_part(x + i, count) + load_part(bias + i, count);
      store_part(out + i, gelu_vector(sum), count);
    });
  }
}

template void bias_gelu_cpu<kIsa>(const BiasGeluParams<float>&, int64_t, int64_t);
template void bias_gelu_cpu<kIsa>(const BiasGeluParams<double>&, int64_t, int64_t);
template void bias_gelu_cpu<kIsa>(const BiasGeluParams<Half>&, int64_t, int64_t);
template void bias_gelu_cpu<kIsa>(const BiasGeluParams<BFloat16>&, int64_t, int64_t);

}  // namespace lets

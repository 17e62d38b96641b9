#include "kernels/delta_linear.h"

#include "kernels/convert.h"

namespace lets {

template <Isa isa, typename T>
void gather_values(const T* values, const int32_t* permutation, int64_t nnz, Accumulator<T>* out) {
  for (int64_t i = 0; i < nnz; ++i) out[i] = widen(values[permutation ? permutation[i] : i]);
}

template <Isa isa, typename T>
void delta_linear_cpu(const DeltaLinearParams<T>& p, const DeltaLinearPlan& plan, int64_t chunk,
                      void* scratch) {
  using A = Accumulator<T>;
  const int64_t task = chunk / plan.num_blocks;
  const int64_t begin = chunk % plan.num_blocks * plan.token_block;
  const int64_t end =
      begin + plan.token_block < p.num_tokens ? begin + plan.token_block : p.num_tokens;
  const int32_t* crow = p.crow + task * p.out_features;
  for (int64_t n = begin; n < end; ++n) {
    const T* x = p.x.data + task * p.x.task_stride + n * p.x.row_stride;
    const T* base = p.base.data + task * p.base.task_stride + n * p.base.row_stride;
    T* out = p.out + (task * p.num_tokens + n) * p.out_features;
    for (int64_t o = 0; o < p.out_features; ++o) {
      A sum = p.base.data ? widen(base[o]) : A(0);
      if (p.bias) sum += widen(p.bias[task * p.out_features + o]);
      for (int32_t e = crow[o]; e < crow[o + 1]; ++e) sum += p.values[e] * widen(x[p.col[e]]);
      out[o] = narrow<T>(sum);
    }
  }
}

#define LETS_INSTANTIATE(T)                                                                    \
  template void gather_values<kIsa, T>(const T*, const int32_t*, int64_t, Accumulator<T>*);    \
  template void delta_linear_cpu<kIsa, T>(const DeltaLinearParams<T>&, const DeltaLinearPlan&, \
                                          int64_t, void*);
LETS_INSTANTIATE(float)
LETS_INSTANTIATE(double)
LETS_INSTANTIATE(Half)
LETS_INSTANTIATE(BFloat16)
#undef LETS_INSTANTIATE

}  // namespace lets

#include "kernels/delta_linear_bwd.h"

#include "kernels/convert.h"

namespace lets {

template <Isa isa, typename T>
void delta_linear_bwd_values_cpu(const DeltaLinearValuesParams<T>& p,
                                 const DeltaLinearValuesPlan& plan, int64_t chunk, void* scratch) {
  using A = Accumulator<T>;
  const int64_t split = chunk / plan.num_parts, part = chunk % plan.num_parts;
  const int64_t rows = p.num_tasks * p.out_features;
  const int64_t first = rows * part / plan.num_parts, last = rows * (part + 1) / plan.num_parts;
  const int64_t begin = split * plan.split_tokens;
  const int64_t end =
      begin + plan.split_tokens < p.num_tokens ? begin + plan.split_tokens : p.num_tokens;
  A* partial = p.partial + split * p.nnz;
  for (int64_t row = first; row < last; ++row) {
    const int64_t task = row / p.out_features;
    const T* grad = p.grad.data + task * p.grad.task_stride + row % p.out_features;
    const T* x = p.x.data + task * p.x.task_stride;
    for (int32_t e = p.crow[row]; e < p.crow[row + 1]; ++e) {
      A sum = 0;
      for (int64_t n = begin; n < end; ++n)
        sum += widen(grad[n * p.grad.row_stride]) * widen(x[n * p.x.row_stride + p.col[e]]);
      partial[e] = sum;
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

#include "kernels/delta_linear.h"

#include "kernels/delta_square.h"
#include "kernels/delta_tile.h"

namespace lets {

template <Isa isa, typename T>
void gather_values(const T* values, const int32_t* permutation, int64_t nnz, Accumulator<T>* out) {
  for (int64_t i = 0; i < nnz; ++i) out[i] = widen(values[permutation ? permutation[i] : i]);
}

// x is turned to feature-major once per block of tokens; then every output row is a short loop over
// its non-zeros that feeds whole vectors of tokens, and squares of sums are turned back.
template <Isa isa, typename T>
void delta_linear_cpu(const DeltaLinearParams<T>& p, const DeltaLinearPlan& plan, int64_t chunk,
                      void* scratch) {
  using A = Accumulator<T>;
  const int64_t part = chunk % plan.num_parts, block = chunk / plan.num_parts % plan.num_blocks;
  const int64_t first_task = chunk / (plan.num_parts * plan.num_blocks) * plan.tasks_per_group;
  const int64_t begin = block * plan.token_block;
  const int64_t left = p.num_tokens - begin;
  const int64_t tokens = left < plan.token_block ? left : plan.token_block;
  constexpr int64_t kGroup = DeltaLinearPlan::kOutputGroup;
  const int64_t groups = (p.out_features + kGroup - 1) / kGroup;
  const int64_t first_output = groups * part / plan.num_parts * kGroup;
  const int64_t end_group = groups * (part + 1) / plan.num_parts * kGroup;
  const int64_t end_output = end_group < p.out_features ? end_group : p.out_features;
  A* x = static_cast<A*>(scratch);
  A* tile = x + plan.token_block * p.in_features;
  const bool streamed = plan.stream_stores &&
                        reinterpret_cast<uintptr_t>(p.out) % kVectorBytes == 0 &&
                        p.out_features * sizeof(T) % kVectorBytes == 0;
  pack_tokens(p.x.data + first_task * p.x.task_stride + begin * p.x.row_stride, p.x.row_stride,
              tokens, p.in_features, x, plan.token_block);

  for (int64_t task = first_task; task < first_task + plan.tasks_per_group; ++task) {
    const DeltaSlice<T> slice{
        p.crow + task * p.out_features,
        p.col,
        p.values,
        p.bias ? p.bias + task * p.out_features : nullptr,
        p.base.data ? p.base.data + task * p.base.task_stride + begin * p.base.row_stride : nullptr,
        p.out + (task * p.num_tokens + begin) * p.out_features,
        p.base.row_stride,
        p.out_features,
        tokens};
    if constexpr (turns_in_registers(isa)) {
      const auto linear = streamed ? &linear_strip<true, T> : &linear_strip<false, T>;
      linear(slice, x, first_output, end_output);
    } else {
      const auto linear = streamed ? &linear_tiles<true, T> : &linear_tiles<false, T>;
      linear(slice, x, plan.token_block, tile, first_output, end_output);
    }
  }
  if (streamed) stream_fence();
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

#include "kernels/delta_linear.h"

#include "kernels/token_block.h"

namespace lets {
namespace {

constexpr int kGroup = DeltaLinearPlan::kOutputGroup;

template <typename A>
struct SparseRow {
  const int32_t* col;
  const A* values;
  int32_t begin, end;
  A bias;
};

// Strips whose accumulators fill half of the registers.
template <typename A>
constexpr int kStripsPerPass = kLanes<A> * 8 >= 4 * kStrip   ? 4
                               : kLanes<A> * 8 >= 2 * kStrip ? 2
                                                             : 1;

// tile[0 .. strips * kStrip) = bias + sum of values[e] * x[col[e]] for as many tokens.
template <typename A, int strips>
inline void sparse_row(const SparseRow<A>& row, const A* x, int64_t stride, A* tile) {
  constexpr int W = kLanes<A>, n = strips * kStrip / W;
  Vec<A> sum[n];
#pragma GCC unroll 16
  for (int i = 0; i < n; ++i) sum[i] = broadcast(row.bias);
  for (int32_t e = row.begin; e < row.end; ++e) {
    const Vec<A> value = broadcast(row.values[e]);
    const A* column = x + row.col[e] * stride;
#pragma GCC unroll 16
    for (int i = 0; i < n; ++i) sum[i] += value * load(column + i * W);
  }
#pragma GCC unroll 16
  for (int i = 0; i < n; ++i) store(tile + i * W, sum[i]);
}

template <typename A>
inline void sparse_row(const SparseRow<A>& row, const A* x, int64_t strips, int64_t stride,
                       A* tile) {
  constexpr int P = kStripsPerPass<A>;
  for (int64_t s = 0; s < strips; s += P) {
    const A* from = x + s * kStrip;
    A* to = tile + s * kStrip;
    const int64_t left = strips - s;
    if (P >= 4 && left >= 4)
      sparse_row<A, P >= 4 ? 4 : 1>(row, from, stride, to);
    else if (P >= 4 && left == 3)
      sparse_row<A, P >= 4 ? 3 : 1>(row, from, stride, to);
    else if (P >= 2 && left >= 2)
      sparse_row<A, P >= 2 ? 2 : 1>(row, from, stride, to);
    else
      sparse_row<A, 1>(row, from, stride, to);
  }
}

template <bool streamed, typename T>
inline void put(T* p, Vec<Accumulator<T>> v) {
  if constexpr (streamed)
    stream(p, v);
  else
    store(p, v);
}

template <bool streamed, typename T>
inline void add_row(const Accumulator<T>* sum, const T* base, T* out, int64_t outputs) {
  constexpr int W = kLanes<Accumulator<T>>;
  int64_t o = 0;
  if (base) {
    for (; o + W <= outputs; o += W) put<streamed>(out + o, load(sum + o) + load(base + o));
    for (; o < outputs; ++o) out[o] = narrow<T>(sum[o] + widen(base[o]));
  } else {
    for (; o + W <= outputs; o += W) put<streamed>(out + o, load(sum + o));
    for (; o < outputs; ++o) out[o] = narrow<T>(sum[o]);
  }
}

// out[t][o] = base[t][o] + tile[o][t] for a group of outputs. A strip is turned to token-major
// order in L1 first, so that base and out are walked in runs of kGroup: shorter ones defeat the
// prefetchers and cost a TLB miss each (2-4 times slower from L3).
template <bool streamed, typename T>
inline void add_tile(const Accumulator<T>* tile, int64_t stride, const T* base, int64_t base_stride,
                     T* out, int64_t out_stride, int64_t tokens, int64_t outputs,
                     Accumulator<T>* strip) {
  using A = Accumulator<T>;
  constexpr int W = kLanes<A>;
  for (int64_t t = 0; t < tokens; t += W) {
    for (int64_t o = 0; o < outputs; o += W) {
      Vec<A> block[W];
#pragma GCC unroll 16
      for (int i = 0; i < W; ++i) block[i] = load(tile + (o + i) * stride + t);
      transpose<A>(block);
#pragma GCC unroll 16
      for (int i = 0; i < W; ++i) store(strip + i * kGroup + o, block[i]);
    }
    for (int64_t i = 0; i < W && t + i < tokens; ++i)
      add_row<streamed, T>(strip + i * kGroup, base ? base + (t + i) * base_stride : nullptr,
                           out + (t + i) * out_stride, outputs);
  }
}

}  // namespace

template <Isa isa, typename T>
void gather_values(const T* values, const int32_t* permutation, int64_t nnz, Accumulator<T>* out) {
  for (int64_t i = 0; i < nnz; ++i) out[i] = widen(values[permutation ? permutation[i] : i]);
}

// x is transposed once per block of tokens; then every output row is a short loop over its
// non-zeros that feeds whole vectors of tokens, and groups of outputs are turned back while they
// are in L1.
template <Isa isa, typename T>
void delta_linear_cpu(const DeltaLinearParams<T>& p, const DeltaLinearPlan& plan, int64_t chunk,
                      void* scratch) {
  using A = Accumulator<T>;
  const int64_t part = chunk % plan.num_parts, block = chunk / plan.num_parts % plan.num_blocks;
  const int64_t first_task = chunk / (plan.num_parts * plan.num_blocks) * plan.tasks_per_group;
  const int64_t begin = block * plan.token_block;
  const int64_t left = p.num_tokens - begin;
  const int64_t tokens = left < plan.token_block ? left : plan.token_block;
  const int64_t strips = (tokens + kStrip - 1) / kStrip, stride = plan.token_block;
  const int64_t groups = (p.out_features + kGroup - 1) / kGroup;
  const int64_t first_output = groups * part / plan.num_parts * kGroup;
  const int64_t end_group = groups * (part + 1) / plan.num_parts * kGroup;
  const int64_t end_output = end_group < p.out_features ? end_group : p.out_features;
  A* tile = static_cast<A*>(scratch);
  A* strip = tile + kGroup * stride;
  A* x = strip + kGroup * kStrip;
  const bool streamed = plan.stream_stores &&
                        reinterpret_cast<uintptr_t>(p.out) % kVectorBytes == 0 &&
                        p.out_features * sizeof(T) % kVectorBytes == 0;
  pack_tokens(p.x.data + first_task * p.x.task_stride + begin * p.x.row_stride, p.x.row_stride,
              tokens, p.in_features, x, stride);

  for (int64_t task = first_task; task < first_task + plan.tasks_per_group; ++task) {
    const T* base =
        p.base.data ? p.base.data + task * p.base.task_stride + begin * p.base.row_stride : nullptr;
    T* out = p.out + (task * p.num_tokens + begin) * p.out_features;
    const int32_t* crow = p.crow + task * p.out_features;
    const T* bias = p.bias ? p.bias + task * p.out_features : nullptr;
    for (int64_t o = first_output; o < end_output; o += kGroup) {
      const int64_t outputs = end_output - o < kGroup ? end_output - o : kGroup;
      for (int64_t i = 0; i < outputs; ++i)
        sparse_row<A>(
            {p.col, p.values, crow[o + i], crow[o + i + 1], bias ? widen(bias[o + i]) : A(0)}, x,
            strips, stride, tile + i * stride);
      const auto add = streamed ? &add_tile<true, T> : &add_tile<false, T>;
      add(tile, stride, base ? base + o : nullptr, p.base.row_stride, out + o, p.out_features,
          tokens, outputs, strip);
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

// cls_attention on tensor cores: two products of one warp, out of which all steps are made.
#pragma once
#include "kernels/cls_attention.cuh"

namespace lets::gpu {

constexpr int kTensorRows = 16;  // (task, head) rows of a block
constexpr int kGroup = 64;       // columns that a warp combines at a time

struct RowRange {
  int begin, end;
  __device__ bool has(int row) const { return row >= begin && row < end; }
};

template <typename T>
__device__ __forceinline__ uint32_t pack_pair(float low, float high) {
  const Pack<T, 4> pair{{from_float<T>(low), from_float<T>(high)}};
  uint32_t word;
  memcpy(&word, &pair, 4);
  return word;
}

// c[tile][.] += source[16 tokens, n] . vectors[16 rows, n], the rows in two tiles of eight. Both
// operands take the features in the same order, eight neighbours per lane and step. Tokens from
// num_tokens on repeat the last one; vectors are in shared memory.
template <typename T>
__device__ void dot_rows(const T* source, int64_t token_stride, int num_tokens, const T* vectors,
                         int vector_stride, RowRange rows, int n, float (&c)[2][4]) {
  const int lane = threadIdx.x % 32, group = lane / 4;
  const T* low = source + smaller(group, num_tokens - 1) * token_stride;
  const T* high = source + smaller(group + 8, num_tokens - 1) * token_stride;
#pragma unroll 2
  for (int k0 = 0; k0 < n; k0 += 32) {
    const int k = k0 + lane % 4 * 8;
    Pack<T> a0{}, a1{}, b[2] = {};
    if (k < n) {
      a0 = load_constant<16>(low + k);
      a1 = load_constant<16>(high + k);
#pragma unroll
      for (int tile = 0; tile < 2; ++tile) {
        const int row = tile * 8 + group;
        if (rows.has(row)) b[tile] = load_pack<16>(vectors + row * vector_stride + k);
      }
    }
    uint32_t w0[4], w1[4];
    memcpy(w0, &a0, 16);
    memcpy(w1, &a1, 16);
#pragma unroll
    for (int tile = 0; tile < 2; ++tile) {
      uint32_t wb[4];
      memcpy(wb, &b[tile], 16);
#pragma unroll
      for (int step = 0; step < 4; step += 2) {
        const uint32_t a_fragment[4] = {w0[step], w1[step], w0[step + 1], w1[step + 1]};
        const uint32_t b_fragment[2] = {wb[step], wb[step + 1]};
        mma(c[tile], a_fragment, b_fragment, T{});
      }
    }
  }
}

// store(row, column, sum): sum over tokens of factors[row, token] * source[token, column] for 64
// columns, `columns` of them there. A lane holds eight neighbouring columns of four tokens: column
// j of each lane makes up tile j. Factors are fp32 in shared memory, zeros up to a multiple of 16.
template <typename T, typename Store>
__device__ void combine_rows(const float* factors, int factor_stride, RowRange rows,
                             const T* source, int64_t token_stride, int num_tokens, int columns,
                             const Store& store) {
  const int lane = threadIdx.x % 32, group = lane / 4, quad = lane % 4;
  float c[8][4] = {};
  for (int s = quad * 4; s - quad * 4 < num_tokens; s += 16) {
    uint32_t words[4][4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      Pack<T> pack{};
      if (group * 8 < columns)
        pack =
            load_constant<16>(source + smaller(s + i, num_tokens - 1) * token_stride + group * 8);
      memcpy(words[i], &pack, 16);
    }
    Pack<float> low{}, high{};
    if (rows.has(group)) low = load_pack<16>(factors + group * factor_stride + s);
    if (rows.has(group + 8)) high = load_pack<16>(factors + (group + 8) * factor_stride + s);
    const uint32_t a[4] = {pack_pair<T>(low.v[0], low.v[1]), pack_pair<T>(high.v[0], high.v[1]),
                           pack_pair<T>(low.v[2], low.v[3]), pack_pair<T>(high.v[2], high.v[3])};
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      const int shift = j % 2 * 16;
      const auto pair = [&](int i) {
        return (words[i][j / 2] >> shift & 0xffffu) | (words[i + 1][j / 2] >> shift & 0xffffu)
                                                          << 16;
      };
      const uint32_t b[2] = {pair(0), pair(2)};
      mma(c[j], a, b, T{});
    }
  }
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int row = group + i / 2 * 8, first = (quad * 2 + i % 2) * 8;
    if (!rows.has(row) || first >= columns) continue;
#pragma unroll
    for (int j = 0; j < 8; ++j) store(row, first + j, c[j][i]);
  }
}

template <typename T>
struct TensorBlock : ClsBlock<T, kTensorRows> {
  T* vectors;  // [16, vector_stride] z, later p . x, in T
  int vector_stride;
  T* queries;  // [16, query_stride]
  int query_stride;

  // Rows of a head.
  __device__ RowRange rows(int head) const {
    const int begin = head * this->tasks - this->first_row;
    return {begin < 0 ? 0 : begin, smaller(begin + this->tasks, this->num_rows)};
  }
  __device__ int last_head() const { return this->head(this->num_rows - 1); }

  // What z holds, in T.
  __device__ void convert() const {
    for (int i = threadIdx.x; i < kTensorRows * this->hidden; i += kClsThreads)
      vectors[i / this->hidden * vector_stride + i % this->hidden] = from_float<T>(this->z[i]);
  }
};

// z = W_K,h^T q_h + D_K,h^T q_h and its copy in T; ends with a barrier.
template <typename T>
__device__ void project_queries_tensor(const TensorBlock<T>& b) {
  const int warp = threadIdx.x / 32;
  if (b.p.key.weight) {
    for (int head = b.head(0); head <= b.last_head(); ++head) {
      const T* weight = b.p.key.weight + static_cast<int64_t>(head) * b.dim * b.hidden;
      for (int first = warp * kGroup; first < b.hidden; first += kClsWarps * kGroup) {
        combine_rows(b.q, b.q_stride, b.rows(head), weight + first, b.hidden, b.dim,
                     b.hidden - first,
                     [&](int r, int i, float sum) { b.z[r * b.hidden + first + i] = sum; });
      }
    }
  }
  __syncthreads();
  if (b.p.key.crow) add_sparse_queries(b);
  __syncthreads();
  b.convert();
  __syncthreads();
}

// probs = scale (q . key + z . x) + attn_bias, -inf where masked; a warp per 16 tokens.
template <typename T>
__device__ void score_tokens_tensor(const TensorBlock<T>& b, bool has_z) {
  const int lane = threadIdx.x % 32;
  const auto& cached = b.p.key.cached;
  for (int s = threadIdx.x / 32 * 16; s < b.length; s += kClsWarps * 16) {
    const int tokens = smaller(16, b.length - s);
    float c[2][4] = {};
    if (has_z) {
      dot_rows(b.x + s * b.p.x.token_stride, b.p.x.token_stride, tokens, b.vectors, b.vector_stride,
               RowRange{0, b.num_rows}, b.hidden, c);
    }
    for (int head = b.head(0); cached.data && head <= b.last_head(); ++head) {
      const T* key = b.tokens(cached, 0) + s * cached.token_stride + head * b.dim;
      dot_rows(key, cached.token_stride, tokens, b.queries, b.query_stride, b.rows(head), b.dim, c);
    }
#pragma unroll
    for (int tile = 0; tile < 2; ++tile) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int token = s + lane / 4 + i / 2 * 8, r = tile * 8 + lane % 4 * 2 + i % 2;
        if (token >= b.length || r >= b.num_rows) continue;
        const bool attended = !b.p.key_mask || b.p.key_mask[b.batch * b.length + token];
        const float bias =
            b.p.attn_bias ? to_float(b.p.attn_bias[b.head(r) * b.length + token]) : 0.0f;
        b.probs[r * b.probs_stride + token] =
            attended ? c[tile][i] * static_cast<float>(b.p.scale) + bias : -INFINITY;
      }
    }
  }
}

// z = p . x and context = p . value, a warp per 64 columns.
template <typename T>
__device__ void average_tokens_tensor(const TensorBlock<T>& b, bool has_px) {
  const int warp = threadIdx.x / 32;
  const RowRange all{0, b.num_rows};
  for (int first = warp * kGroup; has_px && first < b.hidden; first += kClsWarps * kGroup) {
    combine_rows(b.probs, b.probs_stride, all, b.x + first, b.p.x.token_stride, b.length,
                 b.hidden - first,
                 [&](int r, int i, float sum) { b.z[r * b.hidden + first + i] = sum; });
  }
  const auto& cached = b.p.value.cached;
  for (int head = b.head(0); cached.data && head <= b.last_head(); ++head) {
    // Warps from the last one on: the first ones may have one group of x more.
    const T* value = b.tokens(cached, 0) + head * b.dim;
    const int turn = (kClsWarps - 1 - warp + head) % kClsWarps;
    for (int first = turn * kGroup; first < b.dim; first += kClsWarps * kGroup) {
      combine_rows(b.probs, b.probs_stride, b.rows(head), value + first, cached.token_stride,
                   b.length, b.dim - first,
                   [&](int r, int d, float sum) { b.context[r * b.dim + first + d] = sum; });
    }
  }
}

// context += W_V,h px, a warp per 16 output features.
template <typename T>
__device__ void project_values_tensor(const TensorBlock<T>& b, bool add) {
  const int lane = threadIdx.x % 32;
  for (int head = b.head(0); head <= b.last_head(); ++head) {
    const RowRange rows = b.rows(head);
    for (int d = threadIdx.x / 32 * 16; d < b.dim; d += kClsWarps * 16) {
      const T* weight = b.p.value.weight + (static_cast<int64_t>(head) * b.dim + d) * b.hidden;
      float c[2][4] = {};
      dot_rows(weight, b.hidden, smaller(16, b.dim - d), b.vectors, b.vector_stride, rows, b.hidden,
               c);
#pragma unroll
      for (int tile = 0; tile < 2; ++tile) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const int feature = d + lane / 4 + i / 2 * 8, r = tile * 8 + lane % 4 * 2 + i % 2;
          if (feature >= b.dim || !rows.has(r)) continue;
          float* context = b.context + r * b.dim + feature;
          *context = (add ? *context : 0.0f) + c[tile][i];
        }
      }
    }
  }
}

}  // namespace lets::gpu

// The pieces of the cls_attention kernel. A block owns kRows (task, head) rows that read the same
// tokens: its queries z, its probabilities and its p . x stay in shared memory, so the tokens are
// read twice and nothing of the size of the keys is written.
#pragma once
#include "kernels/cls_attention_cuda.h"
#include "kernels/csr_search.cuh"

namespace lets::gpu {

constexpr int kClsThreads = 256, kClsWarps = kClsThreads / 32;

// What one block works on. Rows are numbered head by head, so that neighbours share a head.
template <typename T, int kRows>
struct ClsBlock {
  const ClsAttentionParams<T>& p;
  int hidden, dim, length;
  int64_t batch;       // b
  int64_t first_task;  // of the tasks that share these tokens
  int tasks;           // how many of them
  int first_row, num_rows;
  const T* x;  // [S, H] of this sequence
  int q_stride, probs_stride;
  float* z;        // [kRows, H]; later p . x
  float* q;        // [kRows, q_stride]
  float* context;  // [kRows, D]
  float* probs;    // [kRows, probs_stride]

  __device__ int head(int row) const { return (first_row + row) / tasks; }
  __device__ int64_t task(int row) const { return first_task + (first_row + row) % tasks; }
  // Row of [B, T, A].
  __device__ int64_t index(int row) const {
    return (batch * p.num_tasks + task(row)) * p.num_heads + head(row);
  }
  __device__ const T* tokens(const TokensView<T>& view, int row) const {
    return view.data + task(row) * view.task_stride + batch * view.batch_stride;
  }
};

// kVector elements as floats.
template <int kVector, typename T>
__device__ __forceinline__ void load_floats(const T* address, float (&out)[kVector]) {
  const auto pack = load_constant<kVector * sizeof(T)>(address);
#pragma unroll
  for (int j = 0; j < kVector; ++j) out[j] = to_float(pack.v[j]);
}

// kVector neighbouring floats of shared memory; 16 bytes at a time keep the lanes' banks apart.
template <int kVector>
__device__ __forceinline__ void load_shared(const float* address, float (&out)[kVector]) {
  if constexpr (kVector % 4 == 0) {
#pragma unroll
    for (int j = 0; j < kVector; j += 4) {
      const auto pack = load_pack<16>(address + j);
#pragma unroll
      for (int k = 0; k < 4; ++k) out[j + k] = pack.v[k];
    }
  } else {
#pragma unroll
    for (int j = 0; j < kVector; ++j) out[j] = address[j];
  }
}

// z += D_K,h^T q_h, a warp per row. The entries of a head's rows are neighbours, so lanes take one
// each; where two of them meet in a column, the first one adds for all, in their order: sums do not
// depend on timing.
template <typename T, int kRows>
__device__ void add_sparse_queries(const ClsBlock<T, kRows>& b) {
  const auto& key = b.p.key;
  const int lane = threadIdx.x % 32;
  for (int r = threadIdx.x / 32; r < b.num_rows; r += kClsWarps) {
    const int32_t* crow = key.crow + b.task(r) * b.hidden + b.head(r) * b.dim;
    const int first = __ldg(crow), last = __ldg(crow + b.dim);
    for (int e0 = first; e0 < last; e0 += 32) {
      const int e = e0 + lane;
      int column = -1 - lane;
      float product = 0;
      if (e < last) {
        column = __ldg(key.col + e);
        product = to_float(key.values[e]) * b.q[r * b.q_stride + row_of_entry(crow, 0, b.dim, e)];
      }
      const unsigned group = __match_any_sync(kAllLanes, column);
      const bool first_of_group = (group & ((1u << lane) - 1)) == 0;
      unsigned others = first_of_group ? group & ~(1u << lane) : 0;
      float sum = product;
      while (__any_sync(kAllLanes, others != 0)) {
        const float other = __shfl_sync(kAllLanes, product, others ? __ffs(others) - 1 : lane);
        if (others) sum += other;
        others &= others - 1;
      }
      if (e < last && first_of_group) b.z[r * b.hidden + column] += sum;
      __syncwarp();
    }
  }
}

// z = (W_K,h + D_K,h)^T q_h; a barrier has to follow.
template <typename T, int kRows, int kPair>
__device__ void project_queries(const ClsBlock<T, kRows>& b) {
  const auto& key = b.p.key;
  for (int i = threadIdx.x * kPair; i < b.hidden; i += kClsThreads * kPair) {
    float sum[kRows][kPair] = {};
    if (key.weight) {
      for (int head = b.head(0); head <= b.head(b.num_rows - 1); ++head) {
        const T* weight = key.weight + static_cast<int64_t>(head) * b.dim * b.hidden + i;
#pragma unroll 4
        for (int d = 0; d < b.dim; ++d) {
          float w[kPair];
          load_floats(weight + static_cast<int64_t>(d) * b.hidden, w);
#pragma unroll
          for (int r = 0; r < kRows; ++r) {
            const float q = b.head(r) == head ? b.q[r * b.q_stride + d] : 0.0f;
#pragma unroll
            for (int j = 0; j < kPair; ++j) sum[r][j] += q * w[j];
          }
        }
      }
    }
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
#pragma unroll
      for (int j = 0; j < kPair; ++j) b.z[r * b.hidden + i + j] = sum[r][j];
    }
  }
  if (key.crow) {
    __syncthreads();
    add_sparse_queries(b);
  }
}

// probs = scale (q . key + z . x) + attn_bias, -inf where masked. A warp per kTokens tokens.
template <typename T, int kRows, int kVector, int kPair>
__device__ void score_tokens(const ClsBlock<T, kRows>& b, bool has_z) {
  constexpr int kTokens = 2;
  const int lane = threadIdx.x % 32;
  for (int s = threadIdx.x / 32 * kTokens; s < b.length; s += kClsWarps * kTokens) {
    float sum[kTokens][kRows] = {};
    for (int i = lane * kVector; has_z && i < b.hidden; i += 32 * kVector) {
      float x[kTokens][kVector];
#pragma unroll
      for (int k = 0; k < kTokens; ++k)
        load_floats(b.x + smaller(s + k, b.length - 1) * b.p.x.token_stride + i, x[k]);
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        float z[kVector];
        load_shared(b.z + r * b.hidden + i, z);
#pragma unroll
        for (int j = 0; j < kVector; ++j) {
#pragma unroll
          for (int k = 0; k < kTokens; ++k) sum[k][r] += z[j] * x[k][j];
        }
      }
    }
    const auto& cached = b.p.key.cached;
    if (cached.data) {
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        if (r >= b.num_rows) break;
        const T* key = b.tokens(cached, r) + b.head(r) * b.dim;
        for (int d = lane * kPair; d < b.dim; d += 32 * kPair) {
#pragma unroll
          for (int k = 0; k < kTokens; ++k) {
            float values[kPair];
            load_floats(key + smaller(s + k, b.length - 1) * cached.token_stride + d, values);
#pragma unroll
            for (int j = 0; j < kPair; ++j) sum[k][r] += b.q[r * b.q_stride + d + j] * values[j];
          }
        }
      }
    }
#pragma unroll
    for (int k = 0; k < kTokens; ++k) {
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        const float score = warp_sum(sum[k][r]) * static_cast<float>(b.p.scale);
        if (lane != 0 || s + k >= b.length || r >= b.num_rows) continue;
        const bool attended = !b.p.key_mask || b.p.key_mask[b.batch * b.length + s + k];
        const float bias =
            b.p.attn_bias ? to_float(b.p.attn_bias[b.head(r) * b.length + s + k]) : 0.0f;
        b.probs[r * b.probs_stride + s + k] = attended ? score + bias : -INFINITY;
      }
    }
  }
}

// In place, a warp per row. A sequence that attends to nothing gets zeros.
template <typename T, int kRows>
__device__ void softmax_rows(const ClsBlock<T, kRows>& b) {
  const int lane = threadIdx.x % 32;
  for (int r = threadIdx.x / 32; r < kRows; r += kClsWarps) {
    float* probs = b.probs + r * b.probs_stride;
    const bool used = r < b.num_rows;
    float largest = -INFINITY;
    for (int s = lane; used && s < b.length; s += 32) largest = fmaxf(largest, probs[s]);
    largest = warp_max(largest);
    float total = 0;
    for (int s = lane; s < b.length; s += 32) {
      const float e = used && largest > -INFINITY ? __expf(probs[s] - largest) : 0.0f;
      probs[s] = e;
      total += e;
    }
    total = warp_sum(total);
    const float inverse = total > 0 ? 1.0f / total : 0.0f;
    float* out = used && b.p.probs ? b.p.probs + b.index(r) * b.length : nullptr;
    for (int s = lane; s < b.length; s += 32) {
      probs[s] *= inverse;
      if (out) out[s] = probs[s];
    }
  }
}

// probs = scores * p - p (p . scores) with the forward pass's p, in place of softmax_rows. Keys
// that are not attended to have scores of -inf and no p.
template <typename T, int kRows>
__device__ void softmax_gradient_rows(const ClsBlock<T, kRows>& b) {
  const int lane = threadIdx.x % 32;
  for (int r = threadIdx.x / 32; r < b.num_rows; r += kClsWarps) {
    float* scores = b.probs + r * b.probs_stride;
    const float* probs = b.p.forward_probs + b.index(r) * b.length;
    float mean = 0;
    for (int s = lane; s < b.length; s += 32)
      mean += scores[s] == -INFINITY ? 0.0f : probs[s] * scores[s];
    mean = warp_sum(mean);
    for (int s = lane; s < b.length; s += 32) {
      scores[s] = scores[s] == -INFINITY ? 0.0f : probs[s] * (scores[s] - mean);
      if (b.p.probs) b.p.probs[b.index(r) * b.length + s] = scores[s];
    }
  }
}

// z = p . x: a thread owns kPair features of all rows.
template <typename T, int kRows, int kPair>
__device__ void average_tokens(const ClsBlock<T, kRows>& b) {
  for (int i = threadIdx.x * kPair; i < b.hidden; i += kClsThreads * kPair) {
    float sum[kRows][kPair] = {};
#pragma unroll 4
    for (int s = 0; s < b.length; ++s) {
      float x[kPair];
      load_floats(b.x + s * b.p.x.token_stride + i, x);
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        const float prob = b.probs[r * b.probs_stride + s];
#pragma unroll
        for (int j = 0; j < kPair; ++j) sum[r][j] += prob * x[j];
      }
    }
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
#pragma unroll
      for (int j = 0; j < kPair; ++j) b.z[r * b.hidden + i + j] = sum[r][j];
    }
  }
}

// context = W_V,h px, a warp per output feature; all rows of a head share the weight's row.
template <typename T, int kRows, int kVector>
__device__ void project_values(const ClsBlock<T, kRows>& b) {
  const int lane = threadIdx.x % 32;
  for (int head = b.head(0); head <= b.head(b.num_rows - 1); ++head) {
    for (int d = threadIdx.x / 32; d < b.dim; d += kClsWarps) {
      const T* weight = b.p.value.weight + (static_cast<int64_t>(head) * b.dim + d) * b.hidden;
      float sum[kRows] = {};
      for (int i = lane * kVector; i < b.hidden; i += 32 * kVector) {
        float w[kVector];
        load_floats(weight + i, w);
#pragma unroll
        for (int r = 0; r < kRows; ++r) {
          float px[kVector];
          load_shared(b.z + r * b.hidden + i, px);
#pragma unroll
          for (int j = 0; j < kVector; ++j) sum[r] += w[j] * px[j];
        }
      }
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        const float total = warp_sum(sum[r]);
        if (lane == 0 && r < b.num_rows && b.head(r) == head) b.context[r * b.dim + d] = total;
      }
    }
  }
}

// out = context + p . value + D_V px + value_bias, a thread per row and feature. `complete`:
// context is there and has p . value in it.
template <typename T, int kRows>
__device__ void finish_context(const ClsBlock<T, kRows>& b, bool complete) {
  const auto& value = b.p.value;
  for (int i = threadIdx.x; i < b.num_rows * b.dim; i += kClsThreads) {
    const int r = i / b.dim, d = i % b.dim, feature = b.head(r) * b.dim + d;
    float sum = complete || value.weight ? b.context[i] : 0.0f;
    if (value.cached.data && !complete) {
      const T* v = b.tokens(value.cached, r) + feature;
#pragma unroll 4
      for (int s = 0; s < b.length; ++s)
        sum += b.probs[r * b.probs_stride + s] * to_float(v[s * value.cached.token_stride]);
    }
    if (value.crow) {
      const int32_t* crow = value.crow + b.task(r) * b.hidden + feature;
      const int end = __ldg(crow + 1);
      for (int e = __ldg(crow); e < end; ++e)
        sum += to_float(value.values[e]) * b.z[r * b.hidden + __ldg(value.col + e)];
    }
    if (b.p.value_bias) sum += to_float(b.p.value_bias[b.task(r) * b.hidden + feature]);
    b.p.out[(b.task(r) * b.p.batch + b.batch) * b.hidden + feature] = from_float<T>(sum);
  }
}

}  // namespace lets::gpu

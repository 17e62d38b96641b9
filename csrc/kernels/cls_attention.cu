#include "kernels/cls_attention.cuh"

namespace lets {
namespace {

// One block per sequence (blockIdx.y, with its tasks where each has tokens of its own) and kRows of
// its (task, head) rows.
template <typename T, int kRows, int kVector>
__global__ void __launch_bounds__(gpu::kClsThreads, 2)
    cls_attention_kernel(ClsAttentionParams<T> p) {
  constexpr int kPair = kVector == 1 ? 1 : 4 / sizeof(T);
  const bool one_x = p.x.task_stride == 0;
  const int64_t sequences = one_x ? p.batch : p.batch * p.num_tasks;
  const int tasks = one_x ? static_cast<int>(p.num_tasks) : 1;
  const int hidden = static_cast<int>(p.hidden), length = static_cast<int>(p.length);
  const int dim = static_cast<int>(p.hidden / p.num_heads);
  const int first_row = blockIdx.x * kRows;
  const int num_rows = gpu::smaller(kRows, tasks * static_cast<int>(p.num_heads) - first_row);
  float* shared = gpu::dynamic_shared<float>();
  for (int64_t sequence = blockIdx.y; sequence < sequences; sequence += gridDim.y) {
    const int64_t batch = sequence % p.batch, first_task = sequence / p.batch;
    gpu::ClsBlock<T, kRows> b{p,     hidden,    dim,      length,  batch, first_task,
                              tasks, first_row, num_rows, nullptr, shared};
    b.x = p.x.data + first_task * p.x.task_stride + batch * p.x.batch_stride;
    b.q = b.z + kRows * hidden;
    b.context = b.q + kRows * dim;
    b.probs = b.context + kRows * dim;
    __syncthreads();  // the last sequence is done with shared memory
    for (int i = threadIdx.x; i < kRows * dim; i += gpu::kClsThreads) {
      const int r = i / dim;
      b.q[i] = r < num_rows
                   ? gpu::to_float(
                         p.q[(b.task(r) * p.batch + batch) * hidden + b.head(r) * dim + i % dim])
                   : 0.0f;
    }
    __syncthreads();
    const bool has_z = p.key.weight || p.key.crow;
    if (has_z) gpu::project_queries<T, kRows, kPair>(b);
    __syncthreads();
    gpu::score_tokens<T, kRows, kVector, kPair>(b, has_z);
    if (has_z && p.z) {
      for (int i = threadIdx.x; i < num_rows * hidden; i += gpu::kClsThreads)
        p.z[b.index(i / hidden) * hidden + i % hidden] = b.z[i];
    }
    __syncthreads();
    gpu::softmax_rows(b);
    __syncthreads();
    if (p.value.weight || p.value.crow) {
      gpu::average_tokens<T, kRows, kPair>(b);
      __syncthreads();
      if (p.px) {
        for (int i = threadIdx.x; i < num_rows * hidden; i += gpu::kClsThreads)
          p.px[b.index(i / hidden) * hidden + i % hidden] = b.z[i];
      }
      if (p.value.weight) gpu::project_values<T, kRows, kVector>(b);
      __syncthreads();
    }
    gpu::finish_context(b);
  }
}

template <typename T, int kRows, int kVector>
int launch(const ClsAttentionParams<T>& p, CUstream_st* stream) {
  const bool one_x = p.x.task_stride == 0;
  const int64_t sequences = one_x ? p.batch : p.batch * p.num_tasks;
  const int64_t rows = (one_x ? p.num_tasks : 1) * p.num_heads;
  const dim3 grid(static_cast<unsigned>(gpu::ceil_div<int64_t>(rows, kRows)),
                  static_cast<unsigned>(gpu::smaller<int64_t>(sequences, 65535)));
  const size_t bytes = gpu::ClsBlock<T, kRows>::shared_floats(p) * sizeof(float);
  return gpu::launch({"cls_attention", grid, dim3(gpu::kClsThreads), bytes, stream},
                     cls_attention_kernel<T, kRows, kVector>, p);
}

template <typename T, int kVector>
int choose_rows(const ClsAttentionParams<T>& p, CUstream_st* stream) {
  const bool one_x = p.x.task_stride == 0;
  const int64_t sequences = one_x ? p.batch : p.batch * p.num_tasks;
  const int64_t rows = (one_x ? p.num_tasks : 1) * p.num_heads;
  // Eight rows read the tokens least often; two where that would leave multiprocessors without work
  // or where eight do not fit.
  const bool many = sequences * gpu::ceil_div<int64_t>(rows, 8) >= gpu::num_multiprocessors();
  const size_t bytes = gpu::ClsBlock<T, 8>::shared_floats(p) * sizeof(float);
  if (many && bytes <= gpu::max_shared_bytes()) return launch<T, 8, kVector>(p, stream);
  return launch<T, 2, kVector>(p, stream);
}

template <typename T>
bool aligned(const TokensView<T>& view) {
  return gpu::aligned_to<16>(view.data, view.task_stride, view.batch_stride, view.token_stride);
}

}  // namespace

template <typename T>
int cls_attention_cuda(const ClsAttentionParams<T>& p, CUstream_st* stream) {
  if (p.num_tasks == 0 || p.batch == 0 || p.hidden == 0) return 0;
  constexpr int kVector = 16 / sizeof(T);
  const bool vectors = p.hidden % kVector == 0 && p.hidden / p.num_heads % 2 == 0 && aligned(p.x) &&
                       aligned(p.key.cached) && aligned(p.value.cached) &&
                       gpu::aligned_to<16>(p.key.weight) && gpu::aligned_to<16>(p.value.weight);
  return vectors ? choose_rows<T, kVector>(p, stream) : choose_rows<T, 1>(p, stream);
}

template int cls_attention_cuda(const ClsAttentionParams<float>&, CUstream_st*);
template int cls_attention_cuda(const ClsAttentionParams<Half>&, CUstream_st*);
template int cls_attention_cuda(const ClsAttentionParams<BFloat16>&, CUstream_st*);

}  // namespace lets

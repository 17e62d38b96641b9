#include "kernels/cls_attention_tensor.cuh"

namespace lets {
namespace {

// How a launch is cut: a block per kRows (task, head) rows of a sequence. A sequence has the tokens
// of one text, or of one text and task where every task has its own.
template <typename T>
struct Cut {
  bool one_x;
  int64_t sequences, rows;
  explicit __host__ __device__ Cut(const ClsAttentionParams<T>& p)
      : one_x(p.x.task_stride == 0),
        sequences(one_x ? p.batch : p.batch * p.num_tasks),
        rows((one_x ? p.num_tasks : 1) * p.num_heads) {}
};

// Where a block keeps what, in bytes from the start of its shared memory.
struct SharedPlan {
  int q_stride, probs_stride, vector_stride, query_stride;
  size_t q, context, probs, vectors, queries, bytes;

  __host__ __device__ SharedPlan(int rows, int hidden, int dim, int length, int half_bytes) {
    // Multiples of 16 for combine_rows; 4 more so that rows start in other banks.
    q_stride = gpu::ceil_div(dim, 16) * 16 + 4;
    probs_stride = gpu::ceil_div(length, 16) * 16 + 4;
    vector_stride = gpu::ceil_div(hidden, 32) * 32 + 32;
    query_stride = gpu::ceil_div(dim, 32) * 32 + 32;
    q = align(sizeof(float) * rows * hidden);
    context = q + align(sizeof(float) * rows * q_stride);
    probs = context + align(sizeof(float) * rows * dim);
    vectors = probs + align(sizeof(float) * rows * probs_stride);
    queries = vectors + static_cast<size_t>(half_bytes) * rows * vector_stride;
    bytes = queries + static_cast<size_t>(half_bytes) * rows * query_stride;
  }
  static __host__ __device__ size_t align(size_t n) { return (n + 15) / 16 * 16; }
};

template <typename T, int kRows>
__device__ gpu::ClsBlock<T, kRows> make_block(const ClsAttentionParams<T>& p, int64_t sequence,
                                              const SharedPlan& plan) {
  const Cut<T> cut(p);
  const int dim = static_cast<int>(p.hidden / p.num_heads);
  const int first_row = blockIdx.x * kRows;
  const int64_t batch = sequence % p.batch, first_task = sequence / p.batch;
  auto* shared = gpu::dynamic_shared<unsigned char>();
  const auto floats = [&](size_t offset) { return reinterpret_cast<float*>(shared + offset); };
  return {p,
          static_cast<int>(p.hidden),
          dim,
          static_cast<int>(p.length),
          batch,
          first_task,
          cut.one_x ? static_cast<int>(p.num_tasks) : 1,
          first_row,
          static_cast<int>(gpu::smaller<int64_t>(kRows, cut.rows - first_row)),
          p.x.data + first_task * p.x.task_stride + batch * p.x.batch_stride,
          plan.q_stride,
          plan.probs_stride,
          floats(0),
          floats(plan.q),
          floats(plan.context),
          floats(plan.probs)};
}

// Queries in fp32, zeros beside and below them; probabilities beyond the last token are zeros, too.
template <typename T, int kRows>
__device__ void load_queries(const gpu::ClsBlock<T, kRows>& b) {
  for (int i = threadIdx.x; i < kRows * b.q_stride; i += gpu::kClsThreads) {
    const int r = i / b.q_stride, d = i % b.q_stride;
    const bool used = r < b.num_rows && d < b.dim;
    const int64_t row = used ? b.task(r) * b.p.batch + b.batch : 0;
    b.q[i] = used ? gpu::to_float(b.p.q[row * b.hidden + b.head(r) * b.dim + d]) : 0.0f;
  }
  for (int i = threadIdx.x; i < kRows * b.probs_stride; i += gpu::kClsThreads) b.probs[i] = 0.0f;
}

template <typename T, int kRows>
__device__ void write_rows(const gpu::ClsBlock<T, kRows>& b, float* out) {
  if (!out) return;
  for (int i = threadIdx.x; i < b.num_rows * b.hidden; i += gpu::kClsThreads)
    out[b.index(i / b.hidden) * b.hidden + i % b.hidden] = b.z[i];
}

template <typename T, int kRows>
__device__ void weigh_tokens(const gpu::ClsBlock<T, kRows>& b) {
  if (b.p.forward_probs) {
    gpu::softmax_gradient_rows(b);
  } else {
    gpu::softmax_rows(b);
  }
}

template <typename T, int kRows, int kVector>
__global__ void __launch_bounds__(gpu::kClsThreads, 2)
    cls_attention_kernel(ClsAttentionParams<T> p, SharedPlan plan) {
  constexpr int kPair = kVector == 1 ? 1 : 4 / sizeof(T);
  const Cut<T> cut(p);
  const bool has_z = p.key.weight || p.key.crow, has_px = p.value.weight || p.value.crow;
  for (int64_t sequence = blockIdx.y; sequence < cut.sequences; sequence += gridDim.y) {
    const auto b = make_block<T, kRows>(p, sequence, plan);
    __syncthreads();  // the last sequence is done with shared memory
    load_queries(b);
    __syncthreads();
    if (has_z) gpu::project_queries<T, kRows, kPair>(b);
    __syncthreads();
    gpu::score_tokens<T, kRows, kVector, kPair>(b, has_z);
    if (has_z) write_rows(b, p.z);
    __syncthreads();
    weigh_tokens(b);
    __syncthreads();
    if (has_px) {
      gpu::average_tokens<T, kRows, kPair>(b);
      __syncthreads();
      write_rows(b, p.px);
      if (p.value.weight) gpu::project_values<T, kRows, kVector>(b);
      __syncthreads();
    }
    gpu::finish_context(b, false);
  }
}

template <typename T>
__global__ void __launch_bounds__(gpu::kClsThreads, 2)
    cls_attention_tensor_kernel(ClsAttentionParams<T> p, SharedPlan plan) {
  const Cut<T> cut(p);
  const bool has_z = p.key.weight || p.key.crow, has_px = p.value.weight || p.value.crow;
  auto* shared = gpu::dynamic_shared<unsigned char>();
  for (int64_t sequence = blockIdx.y; sequence < cut.sequences; sequence += gridDim.y) {
    const gpu::TensorBlock<T> b{make_block<T, gpu::kTensorRows>(p, sequence, plan),
                                reinterpret_cast<T*>(shared + plan.vectors), plan.vector_stride,
                                reinterpret_cast<T*>(shared + plan.queries), plan.query_stride};
    __syncthreads();  // the last sequence is done with shared memory
    load_queries(b);
    for (int i = threadIdx.x; has_z && i < gpu::kTensorRows * b.hidden; i += gpu::kClsThreads)
      b.z[i] = 0.0f;
    __syncthreads();
    for (int i = threadIdx.x; i < gpu::kTensorRows * b.dim; i += gpu::kClsThreads)
      b.queries[i / b.dim * b.query_stride + i % b.dim] =
          gpu::from_float<T>(b.q[i / b.dim * b.q_stride + i % b.dim]);
    if (has_z) gpu::project_queries_tensor(b);
    __syncthreads();
    gpu::score_tokens_tensor(b, has_z);
    if (has_z) write_rows(b, p.z);
    __syncthreads();
    weigh_tokens(b);
    __syncthreads();
    gpu::average_tokens_tensor(b, has_px);
    __syncthreads();
    if (has_px) write_rows(b, p.px);
    if (p.value.weight) {
      b.convert();
      __syncthreads();
      gpu::project_values_tensor(b, p.value.cached.data != nullptr);
      __syncthreads();
    }
    gpu::finish_context(b, p.value.cached.data != nullptr);
  }
}

template <typename T, typename Kernel>
int launch(const ClsAttentionParams<T>& p, int rows, const SharedPlan& plan, Kernel kernel,
           CUstream_st* stream) {
  const Cut<T> cut(p);
  const dim3 grid(static_cast<unsigned>(gpu::ceil_div<int64_t>(cut.rows, rows)),
                  static_cast<unsigned>(gpu::smaller<int64_t>(cut.sequences, 65535)));
  return gpu::launch({"cls_attention", grid, dim3(gpu::kClsThreads), plan.bytes, stream}, kernel, p,
                     plan);
}

template <typename T, int kVector>
int choose_rows(const ClsAttentionParams<T>& p, CUstream_st* stream) {
  const int hidden = static_cast<int>(p.hidden), length = static_cast<int>(p.length);
  const int dim = static_cast<int>(p.hidden / p.num_heads);
  const SharedPlan eight(8, hidden, dim, length, 0), two(2, hidden, dim, length, 0);
  const Cut<T> cut(p);
  // Eight rows read the tokens least often; two where that would leave multiprocessors without work
  // or where eight do not fit.
  const bool many =
      cut.sequences * gpu::ceil_div<int64_t>(cut.rows, 8) >= gpu::num_multiprocessors();
  if (many && eight.bytes <= gpu::max_shared_bytes())
    return launch(p, 8, eight, cls_attention_kernel<T, 8, kVector>, stream);
  return launch(p, 2, two, cls_attention_kernel<T, 2, kVector>, stream);
}

template <typename T>
bool aligned(const TokensView<T>& view) {
  return gpu::aligned_to<16>(view.data, view.task_stride, view.batch_stride, view.token_stride);
}

// Whether the rows of a block read the same cached keys or values.
template <typename T>
bool shared_like(const TokensView<T>& cached, const TokensView<T>& x) {
  return !cached.data || (cached.task_stride == 0) == (x.task_stride == 0);
}

}  // namespace

template <typename T>
int cls_attention_cuda(const ClsAttentionParams<T>& p, CUstream_st* stream) {
  if (p.num_tasks == 0 || p.batch == 0 || p.hidden == 0) return 0;
  constexpr int kVector = 16 / sizeof(T);
  const int64_t dim = p.hidden / p.num_heads;
  const bool vectors = p.hidden % kVector == 0 && dim % 2 == 0 && aligned(p.x) &&
                       aligned(p.key.cached) && aligned(p.value.cached) &&
                       gpu::aligned_to<16>(p.key.weight) && gpu::aligned_to<16>(p.value.weight);
  if constexpr (!std::is_same_v<T, float>) {
    const SharedPlan plan(gpu::kTensorRows, static_cast<int>(p.hidden), static_cast<int>(dim),
                          static_cast<int>(p.length), sizeof(T));
    if (vectors && dim % 8 == 0 && p.length > 0 && plan.bytes <= gpu::max_shared_bytes() &&
        shared_like(p.key.cached, p.x) && shared_like(p.value.cached, p.x))
      return launch(p, gpu::kTensorRows, plan, cls_attention_tensor_kernel<T>, stream);
  }
  return vectors ? choose_rows<T, kVector>(p, stream) : choose_rows<T, 1>(p, stream);
}

template int cls_attention_cuda(const ClsAttentionParams<float>&, CUstream_st*);
template int cls_attention_cuda(const ClsAttentionParams<Half>&, CUstream_st*);
template int cls_attention_cuda(const ClsAttentionParams<BFloat16>&, CUstream_st*);

}  // namespace lets

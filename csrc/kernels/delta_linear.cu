#include "kernels/delta_linear_cuda.h"
#include "kernels/row_tile.cuh"

namespace lets {
namespace {

constexpr int kThreads = 256;

// A thread owns kColumns neighbouring outputs, 4 bytes, of all rows of the tile: a warp then moves
// 128 bytes of base and out per row.
template <typename T>
constexpr int kColumns = 4 / sizeof(T);

struct TileShape {
  int columns_per_block;
  bool x_vectors, base_vectors, out_vectors;
};

template <typename T>
__device__ __forceinline__ void load_columns(const T* address, int count, bool vector,
                                             float (&out)[kColumns<T>]) {
  if (vector && count == kColumns<T>) {
    const auto pack = gpu::load_constant<4>(address);
#pragma unroll
    for (int c = 0; c < kColumns<T>; ++c) out[c] = gpu::to_float(pack.v[c]);
  } else {
#pragma unroll
    for (int c = 0; c < kColumns<T>; ++c) out[c] = c < count ? gpu::to_float(address[c]) : 0.0f;
  }
}

template <typename T>
__device__ __forceinline__ void store_columns(T* address, int count, bool vector,
                                              const float (&values)[kColumns<T>]) {
  gpu::Pack<T, 4> pack;
#pragma unroll
  for (int c = 0; c < kColumns<T>; ++c) pack.v[c] = gpu::from_float<T>(values[c]);
  if (vector && count == kColumns<T>) {
    gpu::store_pack(address, pack);
  } else {
#pragma unroll
    for (int c = 0; c < kColumns<T>; ++c) {
      if (c < count) address[c] = pack.v[c];
    }
  }
}

// An entry on its way to its thread: where the tile has its feature, and its value. A tile in
// shared memory has fewer than 65536 slots.
template <typename T>
struct alignas(2 * sizeof(T)) Entry {
  uint16_t slot;
  T value;
};
constexpr int kStaged = 256;  // entries per warp at a time

// A block's rows: kTiles of kRows each, so that every load of the tile is of 16 bytes, whose lanes
// spread over all banks.
template <typename T, int kRows, int kTiles>
size_t shared_bytes(int64_t in_features) {
  return kTiles * gpu::RowTile<T, kRows>::bytes(in_features) +
         kThreads / 32 * kStaged * sizeof(Entry<T>);
}

// sum[.][c] += row `row + c` of the deltas times the tiles. The rows of a warp's columns are
// neighbours, so the warp fetches their entries together, [first, last), and each thread picks its
// own out of shared memory: read one by one they would take a sector each.
template <typename T, int kRows, int kTiles>
__device__ __forceinline__ void add_rows(const DeltaLinearCudaParams<T>& p,
                                         const gpu::RowTile<T, kRows> (&tiles)[kTiles],
                                         Entry<T>* staged, int64_t row, int count, int first,
                                         int last, float (&sum)[kTiles * kRows][kColumns<T>]) {
  int begin[kColumns<T>], end[kColumns<T>];
#pragma unroll
  for (int c = 0; c < kColumns<T>; ++c) begin[c] = c < count ? __ldg(p.crow + row + c) : last;
  // A row ends where the next one starts, which the next column or lane has read.
  const int next = __shfl_down_sync(gpu::kAllLanes, begin[0], 1);
#pragma unroll
  for (int c = 0; c < kColumns<T>; ++c)
    end[c] = c + 1 < kColumns<T> ? begin[c + 1] : threadIdx.x % 32 == 31 ? last : next;
  for (int chunk = first - first % 32; chunk < last; chunk += kStaged) {  // whole sectors
    const int chunk_end = gpu::smaller(chunk + kStaged, last);
    __syncwarp();  // the last chunk has been read
    for (int i = chunk; i < chunk_end; i += 32) {
      const int e = i + static_cast<int>(threadIdx.x % 32), there = gpu::smaller(e, last - 1);
      const int position = p.permutation ? __ldg(p.permutation + there) : there;
      const Entry<T> entry{static_cast<uint16_t>(tiles[0].slot(__ldg(p.col + there))),
                           p.values[position]};
      if (e < chunk_end) staged[e - chunk] = entry;
    }
    __syncwarp();
#pragma unroll
    for (int c = 0; c < kColumns<T>; ++c) {
      const int stop = gpu::smaller(end[c], chunk_end);
      for (; begin[c] < stop; ++begin[c]) {
        const Entry<T> entry = staged[begin[c] - chunk];
        const float value = gpu::to_float(entry.value);
#pragma unroll
        for (int i = 0; i < kTiles; ++i) {
          const auto x = tiles[i].at_slot(entry.slot);
#pragma unroll
          for (int m = 0; m < kRows; ++m) sum[i * kRows + m][c] += value * gpu::to_float(x.v[m]);
        }
      }
    }
  }
}

// One block: kTiles * kTileRows rows, a range of columns, and all tasks that read the same x.
template <typename T, int kTileRows, int kTiles>
__global__ void __launch_bounds__(kThreads, 2)
    delta_linear_kernel(DeltaLinearCudaParams<T> p, TileShape shape) {
  constexpr int kRows = kTiles * kTileRows;
  const size_t tile_size = gpu::RowTile<T, kTileRows>::bytes(p.in_features) / sizeof(T);
  gpu::RowTile<T, kTileRows> tiles[kTiles];
#pragma unroll
  for (int i = 0; i < kTiles; ++i) tiles[i].data = gpu::dynamic_shared<T>() + i * tile_size;
  auto* entries = reinterpret_cast<Entry<T>*>(gpu::dynamic_shared<T>() + kTiles * tile_size);
  constexpr int kWarpColumns = 32 * kColumns<T>;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const bool one_x = p.x.task_stride == 0, one_base = p.base.task_stride == 0;
  const int64_t first_row = static_cast<int64_t>(blockIdx.x) * kRows;
  const int num_rows = static_cast<int>(gpu::smaller<int64_t>(kRows, p.num_tokens - first_row));
  const int num_columns = static_cast<int>(p.out_features);
  const int begin = blockIdx.y * shape.columns_per_block;
  const int end = gpu::smaller(num_columns, begin + shape.columns_per_block);

  for (int64_t group = blockIdx.z; group < (one_x ? 1 : p.num_tasks); group += gridDim.z) {
    __syncthreads();  // the last group has been read
#pragma unroll
    for (int i = 0; i < kTiles; ++i) {
      const int64_t row = first_row + i * kTileRows;
      tiles[i].load(p.x.data + group * p.x.task_stride + row * p.x.row_stride, p.x.row_stride,
                    num_rows - i * kTileRows, static_cast<int>(p.in_features), shape.x_vectors);
    }
    __syncthreads();
    for (int first = begin + warp * kWarpColumns; first < end; first += kThreads * kColumns<T>) {
      const int o = first + lane * kColumns<T>, left = end - o;
      const int count = left < 0 ? 0 : gpu::smaller(kColumns<T>, left);
      float base[kRows][kColumns<T>] = {};
      const int64_t last = one_x ? p.num_tasks : group + 1;
      for (int64_t task = group; task < last; ++task) {
        if (p.base.data && (task == group || !one_base)) {
          const T* address =
              p.base.data + task * p.base.task_stride + first_row * p.base.row_stride + o;
#pragma unroll
          for (int m = 0; m < kRows; ++m) {
            if (m < num_rows && count > 0)
              load_columns(address + m * p.base.row_stride, count, shape.base_vectors, base[m]);
          }
        }
        const int64_t row = task * num_columns + o;
        float bias[kColumns<T>] = {};
        if (p.bias && count > 0) load_columns(p.bias + row, count, false, bias);
        float sum[kRows][kColumns<T>];
#pragma unroll
        for (int c = 0; c < kColumns<T>; ++c) {
#pragma unroll
          for (int m = 0; m < kRows; ++m) sum[m][c] = base[m][c] + bias[c];
        }
        const int32_t* crow = p.crow + task * num_columns;
        add_rows(p, tiles, entries + warp * kStaged, row, count, __ldg(crow + first),
                 __ldg(crow + gpu::smaller(first + kWarpColumns, end)), sum);
        T* out = p.out + (task * p.num_tokens + first_row) * num_columns + o;
#pragma unroll
        for (int m = 0; m < kRows; ++m) {
          if (m < num_rows && count > 0)
            store_columns(out + static_cast<int64_t>(m) * num_columns, count, shape.out_vectors,
                          sum[m]);
        }
      }
    }
  }
}

// How many parts of kSweep columns the work of a launch has.
template <typename T>
constexpr int kSweep = kThreads * kColumns<T>;
template <typename T>
int64_t num_groups(const DeltaLinearCudaParams<T>& p) {
  return p.x.task_stride == 0 ? 1 : p.num_tasks;
}

template <typename T, int kTileRows, int kTiles>
int launch(const DeltaLinearCudaParams<T>& p, CUstream_st* stream) {
  const int64_t tiles = gpu::ceil_div<int64_t>(p.num_tokens, kTiles * kTileRows);
  const int64_t groups = num_groups(p);
  const int64_t sweeps = gpu::ceil_div<int64_t>(p.out_features, kSweep<T>);
  // Few rows: cut the columns, too, until there are two blocks per multiprocessor.
  const int64_t wanted = gpu::ceil_div<int64_t>(2 * gpu::num_multiprocessors(), tiles * groups);
  const int64_t parts = gpu::smaller(wanted, sweeps);
  TileShape shape;
  shape.columns_per_block = static_cast<int>(gpu::ceil_div(sweeps, parts) * kSweep<T>);
  shape.x_vectors = p.in_features % (16 / sizeof(T)) == 0 &&
                    gpu::aligned_to<16>(p.x.data, p.x.task_stride, p.x.row_stride);
  shape.base_vectors = gpu::aligned_to<4>(p.base.data, p.base.task_stride, p.base.row_stride);
  shape.out_vectors = gpu::aligned_to<4>(p.out, p.out_features);
  const dim3 grid(
      static_cast<unsigned>(tiles),
      static_cast<unsigned>(gpu::ceil_div<int64_t>(p.out_features, shape.columns_per_block)),
      static_cast<unsigned>(gpu::smaller<int64_t>(groups, 65535)));
  return gpu::launch({"delta_linear", grid, dim3(kThreads),
                      shared_bytes<T, kTileRows, kTiles>(p.in_features), stream},
                     delta_linear_kernel<T, kTileRows, kTiles>, p, shape);
}

}  // namespace

template <typename T>
int delta_linear_cuda(const DeltaLinearCudaParams<T>& p, CUstream_st* stream) {
  if (p.num_tasks == 0 || p.num_tokens == 0 || p.out_features == 0) return 0;
  constexpr int kWide = 16 / sizeof(T), kNarrow = 4 / sizeof(T), kTiles = 2;
  // Two tiles read the deltas least often; fewer rows where that would leave multiprocessors
  // without work, or where the rows are too wide for shared memory (a transposed up-projection).
  const int64_t room = static_cast<int64_t>(gpu::max_shared_bytes());
  const int64_t blocks = gpu::ceil_div<int64_t>(p.num_tokens, kTiles * kWide) * num_groups(p) *
                         gpu::ceil_div<int64_t>(p.out_features, kSweep<T>);
  const auto fits = [&](size_t bytes) { return static_cast<int64_t>(bytes) <= room; };
  if (blocks >= 2 * gpu::num_multiprocessors() &&
      fits(shared_bytes<T, kWide, kTiles>(p.in_features)))
    return launch<T, kWide, kTiles>(p, stream);
  if (fits(shared_bytes<T, kWide, 1>(p.in_features))) return launch<T, kWide, 1>(p, stream);
  return launch<T, kNarrow, 1>(p, stream);
}

template int delta_linear_cuda(const DeltaLinearCudaParams<float>&, CUstream_st*);
template int delta_linear_cuda(const DeltaLinearCudaParams<Half>&, CUstream_st*);
template int delta_linear_cuda(const DeltaLinearCudaParams<BFloat16>&, CUstream_st*);

}  // namespace lets

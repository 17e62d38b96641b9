// Kernels with a bug planted on purpose, and their fixed twins: the proof of the emulator.
// usage: planted_bugs NAME bug|fixed. Exit: 0 nothing found, 2 wrong result, 3 emulator.
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "kernels/gpu.h"

using lets::gpu::kAllLanes;

namespace {

template <bool kBug>
__global__ void missing_barrier(const float* x, float* out) {
  LETS_SHARED_ARRAY(float, sums, 128);
  sums[threadIdx.x] = x[blockIdx.x * 128 + threadIdx.x];
  for (unsigned half = 64; half > 0; half /= 2) {
    if (!kBug || half != 16) __syncthreads();
    if (threadIdx.x < half) sums[threadIdx.x] += sums[threadIdx.x + half];
  }
  if (threadIdx.x == 0) out[blockIdx.x] = sums[0];
}

// The next tile overwrites values that slower threads still have to read.
template <bool kBug>
__global__ void missing_second_barrier(const float* x, float* out) {
  LETS_SHARED_ARRAY(float, tile, 64);
  float sum = 0;
  for (int i = 0; i < 4; ++i) {
    tile[threadIdx.x] = x[i * 64 + threadIdx.x];
    __syncthreads();
    sum += tile[63 - threadIdx.x];
    if (!kBug) __syncthreads();
  }
  out[threadIdx.x] = sum;
}

template <bool kBug>
__global__ void missing_warp_sync(const float* x, float* out) {
  LETS_SHARED_ARRAY(float, values, 32);
  values[threadIdx.x] = x[threadIdx.x];
  if (!kBug) __syncwarp();
  out[threadIdx.x] = values[threadIdx.x ^ 1];
}

template <bool kBug>
__global__ void missing_copy_wait(const float* x, float* out) {
  LETS_SHARED_ARRAY(float, values, 128);
  for (int i = 0; i < 2; ++i) {
    const unsigned at = i * 64 + threadIdx.x;
    lets::gpu::copy_async<4>(values + at, x + at, true);
    lets::gpu::end_copy_group();
  }
  lets::gpu::wait_for_copies<kBug ? 1 : 0>();
  out[threadIdx.x] = values[threadIdx.x] + values[64 + threadIdx.x];
}

template <bool kBug>
__global__ void missing_grid_sync(const float* x, float* scratch, float* out) {
  const unsigned i = blockIdx.x * blockDim.x + threadIdx.x, n = gridDim.x * blockDim.x;
  scratch[i] = 2 * x[i];
  if (kBug) {
    __syncthreads();
  } else {
    lets::gpu::grid_sync();
  }
  out[i] = scratch[n - 1 - i];
}

template <bool kBug>
__global__ void race_of_blocks(const float* x, float* out) {
  const float sum = lets::gpu::warp_sum(x[blockIdx.x * 32 + threadIdx.x]);
  if (threadIdx.x != 0) return;
  if (kBug) {
    *out += sum;
  } else {
    atomicAdd(out, sum);
  }
}

template <bool kBug>
__global__ void past_global_end(const float* x, float* out, int n) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (kBug ? i <= n : i < n) out[i] = x[i];
}

template <bool kBug>
__global__ void past_shared_end(const float* x, float* out) {
  auto* values = lets::gpu::dynamic_shared<float>();
  values[threadIdx.x + (kBug ? 1 : 0)] = x[threadIdx.x];
  __syncthreads();
  out[threadIdx.x] = values[threadIdx.x];
}

template <bool kBug>
__global__ void misaligned_vector(const float* x, float* out) {
  const auto pack = lets::gpu::load_constant<16>(x + threadIdx.x * 4 + (kBug ? 1 : 0));
  out[threadIdx.x] = pack.v[0];
}

template <bool kBug>
__global__ void divergent_barrier(const float* x, float* out) {
  LETS_SHARED_ARRAY(float, values, 64);
  values[threadIdx.x] = x[threadIdx.x];
  if (kBug && threadIdx.x < 32) {
    __syncthreads();
  } else {
    __syncthreads();
  }
  out[threadIdx.x] = values[63 - threadIdx.x];
}

template <bool kBug>
__global__ void barrier_after_exit(const float* x, float* out) {
  if (kBug && threadIdx.x == 63) return;
  __syncthreads();
  out[threadIdx.x] = x[threadIdx.x];
}

template <bool kBug>
__global__ void shuffle_with_exited_lanes(const float* x, float* out) {
  if (kBug && threadIdx.x >= 20) return;
  const float sum = lets::gpu::warp_sum(threadIdx.x < 20 ? x[threadIdx.x] : 0.0f);
  if (threadIdx.x == 0) *out = sum;
}

template <bool kBug>
__global__ void uninitialised_shared(const float* x, float* out) {
  LETS_SHARED_ARRAY(float, values, 64);
  if (!kBug || threadIdx.x < 63) values[threadIdx.x] = x[threadIdx.x];
  __syncthreads();
  out[threadIdx.x] = values[63 - threadIdx.x];
}

// Correct in both forms: the block that comes last adds up what fences have published.
template <bool>
__global__ void last_block(const float* x, float* partial, int* counter, float* out) {
  LETS_SHARED_ARRAY(int, is_last, 1);
  const float sum = lets::gpu::warp_sum(x[blockIdx.x * 32 + threadIdx.x]);
  if (threadIdx.x == 0) {
    partial[blockIdx.x] = sum;
    __threadfence();
    is_last[0] = atomicAdd(counter, 1) == static_cast<int>(gridDim.x) - 1;
    __threadfence();
  }
  __syncthreads();
  if (!is_last[0] || threadIdx.x != 0) return;
  float total = 0;
  for (unsigned b = 0; b < gridDim.x; ++b) total += partial[b];
  *out = total;
}

// Exact size and alignment, so that the sanitizers see every step outside.
struct Floats {
  explicit Floats(int n, bool random = false) : size(n) {
    void* memory = nullptr;
    if (posix_memalign(&memory, 16, n * sizeof(float))) abort();
    data = static_cast<float*>(memory);
    for (int i = 0; i < n; ++i) data[i] = random ? static_cast<float>(1 + i * 37 % 101) : NAN;
  }
  ~Floats() { free(data); }
  Floats(const Floats&) = delete;
  float sum(int begin, int end) const {
    float total = 0;
    for (int i = begin; i < end; ++i) total += data[i];
    return total;
  }
  int size;
  float* data;
};

template <typename F>
bool all(int n, const F& f) {
  for (int i = 0; i < n; ++i) {
    if (!f(i)) return false;
  }
  return true;
}

template <typename K, typename... A>
void run(K kernel, int blocks, int threads, const A&... arguments) {
  lets::gpu::launch({"planted", dim3(blocks), dim3(threads), 256, nullptr}, kernel, arguments...);
}

template <bool kBug>
bool right_result(const std::string& name) {
  Floats x(512, true), out(256), scratch(256);
  if (name == "missing_barrier") {
    run(missing_barrier<kBug>, 4, 128, x.data, out.data);
    return all(4, [&](int b) { return out.data[b] == x.sum(b * 128, b * 128 + 128); });
  }
  if (name == "missing_second_barrier") {
    run(missing_second_barrier<kBug>, 1, 64, x.data, out.data);
    return all(64, [&](int t) {
      const float* last = x.data + 63 - t;
      return out.data[t] == last[0] + last[64] + last[128] + last[192];
    });
  }
  if (name == "missing_warp_sync") {
    run(missing_warp_sync<kBug>, 1, 32, x.data, out.data);
    return all(32, [&](int t) { return out.data[t] == x.data[t ^ 1]; });
  }
  if (name == "missing_grid_sync") {
    lets::gpu::launch({"planted", dim3(4), dim3(64), 0, nullptr, true}, missing_grid_sync<kBug>,
                      x.data, scratch.data, out.data);
    return all(256, [&](int t) { return out.data[t] == 2 * x.data[255 - t]; });
  }
  if (name == "race_of_blocks") {
    out.data[0] = 0;
    run(race_of_blocks<kBug>, 8, 32, x.data, out.data);
    return out.data[0] == x.sum(0, 256);
  }
  if (name == "missing_copy_wait") {
    run(missing_copy_wait<kBug>, 1, 64, x.data, out.data);
    return all(64, [&](int t) { return out.data[t] == x.data[t] + x.data[64 + t]; });
  }
  if (name == "past_global_end") {
    Floats in(100, true), exact(100);
    run(past_global_end<kBug>, 4, 32, in.data, exact.data, 100);
    return all(100, [&](int t) { return exact.data[t] == in.data[t]; });
  }
  if (name == "past_shared_end") {
    run(past_shared_end<kBug>, 1, 64, x.data, out.data);
    return true;
  }
  if (name == "misaligned_vector") {
    run(misaligned_vector<kBug>, 1, 32, x.data, out.data);
    return true;
  }
  if (name == "divergent_barrier") {
    run(divergent_barrier<kBug>, 1, 64, x.data, out.data);
    return all(64, [&](int t) { return out.data[t] == x.data[63 - t]; });
  }
  if (name == "barrier_after_exit") {
    run(barrier_after_exit<kBug>, 1, 64, x.data, out.data);
    return all(63, [&](int t) { return out.data[t] == x.data[t]; });
  }
  if (name == "shuffle_with_exited_lanes") {
    run(shuffle_with_exited_lanes<kBug>, 1, 32, x.data, out.data);
    return out.data[0] == x.sum(0, 20);
  }
  if (name == "uninitialised_shared") {
    run(uninitialised_shared<kBug>, 1, 64, x.data, out.data);
    return all(64, [&](int t) { return out.data[t] == x.data[63 - t]; });
  }
  if (name == "last_block") {
    int counter = 0;
    run(last_block<kBug>, 8, 32, x.data, scratch.data, &counter, out.data);
    return out.data[0] == x.sum(0, 256);
  }
  printf("no such program: %s\n", name.c_str());
  exit(1);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) {
    printf("usage: planted_bugs NAME bug|fixed\n");
    return 1;
  }
  const bool bug = !strcmp(argv[2], "bug");
  for (int seed = 1; seed <= 5; ++seed) {
    emu::set_seed(seed);
    try {
      if (bug ? right_result<true>(argv[1]) : right_result<false>(argv[1])) continue;
    } catch (const emu::Error& error) {
      printf("emulator: %s\n", error.what());
      return 3;
    }
    printf("wrong result with seed %d\n", seed);
    return 2;
  }
  return 0;
}

// gpu.h on a GPU: launches, shared memory and grid barriers in the words of the CUDA runtime.
#pragma once
#include <cooperative_groups.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#define LETS_SHARED_ARRAY(T, name, size) __shared__ T name[size]

namespace lets::gpu {

struct Launch {
  const char* name;
  dim3 grid, block;
  size_t shared_bytes;
  cudaStream_t stream;
  bool cooperative = false;
};

template <typename T>
__device__ __forceinline__ T* dynamic_shared() {
  extern __shared__ __align__(16) unsigned char dynamic_shared_bytes[];
  return reinterpret_cast<T*>(dynamic_shared_bytes);
}

// One load or store instruction each; the constant one through the read-only path.
template <typename Word>
__device__ __forceinline__ Word read_constant_word(const Word* address) {
  return __ldg(address);
}
template <typename Word>
__device__ __forceinline__ Word read_word(const Word* address) {
  return *address;
}
template <typename Word>
__device__ __forceinline__ void write_word(Word* address, const Word& word) {
  *address = word;
}

__device__ __forceinline__ void grid_sync() { cooperative_groups::this_grid().sync(); }

// Copies one word of kBytes from global to shared memory, zeros unless valid, while the thread goes
// on. It may read the word after waiting for the copy's group; other threads also need a barrier.
template <int kBytes>
__device__ __forceinline__ void copy_async(void* shared, const void* global, bool valid) {
  const auto to = static_cast<unsigned>(__cvta_generic_to_shared(shared));
  const int bytes = valid ? kBytes : 0;
  if constexpr (kBytes == 16) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(global), "r"(bytes)
                 : "memory");
  } else if constexpr (kBytes >= 4) {
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(to), "l"(global),
                 "n"(kBytes), "r"(bytes)
                 : "memory");
  } else {
    static_assert(kBytes == 2);
    *static_cast<uint16_t*>(shared) = valid ? __ldg(static_cast<const uint16_t*>(global)) : 0;
  }
}
__device__ __forceinline__ void end_copy_group() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}
// Waits until at most kPending of the groups that this thread has ended are still on their way.
template <int kPending>
__device__ __forceinline__ void wait_for_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

__device__ __forceinline__ void prefetch_to_l2(const void* address) {
  asm volatile("prefetch.global.L2 [%0];" ::"l"(address));
}

__device__ __forceinline__ void mma_m16n8k16_half(float (&c)[4], const uint32_t (&a)[4],
                                                  const uint32_t (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
__device__ __forceinline__ void mma_m16n8k16_bfloat16(float (&c)[4], const uint32_t (&a)[4],
                                                      const uint32_t (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

template <typename... P>
cudaError_t allow_shared(void (*kernel)(P...), size_t bytes) {
  if (bytes <= 48 * 1024) return cudaSuccess;
  return cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                              cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes));
}

// Returns 0 or a cudaError_t.
template <typename... P, typename... A>
int launch(const Launch& l, void (*kernel)(P...), const A&... arguments) {
  if (const cudaError_t error = allow_shared(kernel, l.shared_bytes)) return error;
  cudaLaunchConfig_t config{};
  config.gridDim = l.grid;
  config.blockDim = l.block;
  config.dynamicSmemBytes = l.shared_bytes;
  config.stream = l.stream;
  cudaLaunchAttribute cooperative{};
  cooperative.id = cudaLaunchAttributeCooperative;
  cooperative.val.cooperative = 1;
  config.attrs = &cooperative;
  config.numAttrs = l.cooperative ? 1 : 0;
  return cudaLaunchKernelEx(&config, kernel, static_cast<P>(arguments)...);
}

inline int device_attribute(cudaDeviceAttr attribute) {
  int device = 0, value = 0;
  if (cudaGetDevice(&device) || cudaDeviceGetAttribute(&value, attribute, device)) return 0;
  return value;
}
inline int num_multiprocessors() { return device_attribute(cudaDevAttrMultiProcessorCount); }
// The most dynamic shared memory that one block can have.
inline size_t max_shared_bytes() {
  return static_cast<size_t>(device_attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin));
}
// How many blocks can be on the device at once; a cooperative grid must not have more.
template <typename... P>
int max_resident_blocks(void (*kernel)(P...), int threads, size_t shared_bytes) {
  int per_multiprocessor = 0;
  if (allow_shared(kernel, shared_bytes) || cudaOccupancyMaxActiveBlocksPerMultiprocessor(
                                                &per_multiprocessor, kernel, threads, shared_bytes))
    return 0;
  return per_multiprocessor * num_multiprocessors();
}

}  // namespace lets::gpu

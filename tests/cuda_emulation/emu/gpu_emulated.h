// gpu.h on the emulator: the same names as kernels/gpu_device.h.
#pragma once
#include "emu/cuda_emu.h"
#ifdef EMU_TRAFFIC
#include "emu/traffic.h"
#endif

#define LETS_SHARED_ARRAY(T, name, size)                      \
  T(&name)                                                    \
  [size] = *reinterpret_cast<T(*)[size]>(::emu::shared_array( \
      [] {                                                    \
        static const char key = 0;                            \
        return &key;                                          \
      }(),                                                    \
      sizeof(T) * (size)))

namespace emu {

// The emulated device. Tests lower the first one to reach the paths for smaller GPUs.
inline size_t device_shared_bytes = 227 << 10;
inline int device_multiprocessors = 3;

}  // namespace emu

namespace lets::gpu {

struct Launch {
  const char* name;
  dim3 grid, block;
  size_t shared_bytes;
  CUstream_st* stream;
  bool cooperative = false;
};

template <typename T>
T* dynamic_shared() {
  return static_cast<T*>(emu::dynamic_shared());
}

#ifdef EMU_TRAFFIC
// A compiler may split a wide access, so it is counted here and hidden from the instrumentation.
template <typename Word>
__forceinline__ Word read_word(const Word* address) {
  Word word;
  emu::count_access(address, sizeof(Word), false);
  emu::copy_uncounted(&word, address);
  return word;
}
template <typename Word>
__forceinline__ void write_word(Word* address, const Word& word) {
  emu::count_access(address, sizeof(Word), true);
  emu::copy_uncounted(address, &word);
}
#else
template <typename Word>
Word read_word(const Word* address) {
  return *address;
}
template <typename Word>
void write_word(Word* address, const Word& word) {
  *address = word;
}
#endif
template <typename Word>
__forceinline__ Word read_constant_word(const Word* address) {
  return read_word(address);
}

inline void grid_sync(emu::Site site = emu::Site::here()) { emu::sync_grid(site); }

template <typename Word>
__forceinline__ void finish_copy(const emu::AsyncCopy& copy) {
  Word word{};
  if (copy.valid) word = read_word(static_cast<const Word*>(copy.from));
  write_word(static_cast<Word*>(copy.to), word);
}
// As late as the rules allow, so that who does not wait reads what was there before.
template <int kBytes>
__forceinline__ void copy_async(void* shared, const void* global, bool valid) {
  emu::add_copy({shared, global, kBytes, valid});
}
inline void end_copy_group() { emu::end_copy_group(); }
template <int kPending>
__forceinline__ void wait_for_copies() {
  emu::AsyncCopy copy;
  while (emu::next_copy(kPending, &copy)) {
    switch (copy.bytes) {
      case 2:
        finish_copy<uint16_t>(copy);
        break;
      case 4:
        finish_copy<uint32_t>(copy);
        break;
      case 8:
        finish_copy<uint2>(copy);
        break;
      default:
        finish_copy<uint4>(copy);
    }
  }
}

inline void prefetch_to_l2(const void*) {}

inline void mma_m16n8k16_half(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                              emu::Site site = emu::Site::here()) {
  emu::mma_m16n8k16(c, a, b, false, site);
}
inline void mma_m16n8k16_bfloat16(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                                  emu::Site site = emu::Site::here()) {
  emu::mma_m16n8k16(c, a, b, true, site);
}

template <typename... P, typename... A>
int launch(const Launch& l, void (*kernel)(P...), const A&... arguments) {
  if (l.shared_bytes > emu::device_shared_bytes) return 1;  // cudaErrorInvalidValue
  emu::launch({l.name, l.grid, l.block, l.shared_bytes, l.cooperative},
              [&] { kernel(static_cast<P>(arguments)...); });
  return 0;
}

inline int num_multiprocessors() { return emu::device_multiprocessors; }
inline size_t max_shared_bytes() { return emu::device_shared_bytes; }
template <typename... P>
int max_resident_blocks(void (*)(P...), int, size_t shared_bytes) {
  if (shared_bytes > emu::device_shared_bytes) return 0;
  return 2 * emu::device_multiprocessors;
}

}  // namespace lets::gpu

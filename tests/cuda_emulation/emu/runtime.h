// What a kernel can ask of the emulator. Stricter than most GPUs, as strict as the CUDA programming
// guide: threads and blocks run in a random (seeded) order, no warp runs in lockstep, shuffles move
// data but order no memory, a barrier needs every thread of the block at the same source line, and
// shared memory starts as 0xff bytes (NaN).
#pragma once
#include <vector_types.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <stdexcept>

namespace emu {

struct Error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct Indices {
  uint3 thread, block;
  dim3 block_dim, grid_dim;
};
extern Indices* running;  // of the CUDA thread that runs; null on the host

struct Site {
  const char* file = "?";
  int line = 0;
  static Site here(const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
    return {file, line};
  }
};

struct LaunchShape {
  const char* name;
  dim3 grid, block;
  size_t shared_bytes;
  bool cooperative;
};
void set_seed(uint64_t seed);
// Runs body once per CUDA thread. Throws Error when the kernel breaks a rule.
void launch(const LaunchShape& shape, const std::function<void()>& body);
int lane_id();

// One array per block and key.
void* shared_array(const void* key, size_t bytes);
void* dynamic_shared();

void sync_block(Site site);
void sync_grid(Site site);
void sync_warp(unsigned mask, Site site);
void fence();  // orders with every other fence: more than CUDA promises, so no false alarms

// A warp operation: every lane of `mask` hands in a pointer, the last one to come runs `combine`.
using Combine = void (*)(void* const lanes[32], unsigned mask);
void warp_operation(unsigned mask, void* argument, Combine combine, const char* what, Site site);

// Copies on their way to shared memory, in groups; see gpu.h.
struct AsyncCopy {
  void* to;
  const void* from;
  int bytes;
  bool valid;
};
void add_copy(const AsyncCopy& copy);
void end_copy_group();
bool next_copy(int pending_groups, AsyncCopy* copy);  // one that has to be finished now

// Operations of warp.cpp.
void shuffle(void* value, unsigned bytes, int source_lane, unsigned mask, Site site);
unsigned ballot(bool predicate, unsigned mask, Site site);
unsigned match(uint32_t value, unsigned mask, Site site);  // lanes with the same value
void mma_m16n8k16(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], bool bfloat16,
                  Site site);

}  // namespace emu

// Shared memory of a block, filled with 0xff. ASan builds give every array a heap block of its
// exact size, so that one element past the end is seen; other builds cut arrays out of a reused
// arena.
#include <cstdlib>

#include "state.h"

namespace emu {
namespace {

constexpr size_t kArenaBytes = 320 << 10, kAlignment = 128;

// Never destroyed: a leak checker must find them reachable at exit.
std::vector<char*>& free_arenas = *new std::vector<char*>;
std::vector<char*>& used_arenas = *new std::vector<char*>;

char* allocate(Block* block, size_t bytes) {
#ifdef EMU_ASAN
  void* data = nullptr;
  (void)block;
  if (posix_memalign(&data, 16, bytes)) abort();
  return static_cast<char*>(data);
#else
  block->arena_used = (block->arena_used + kAlignment - 1) / kAlignment * kAlignment;
  char* data = block->arena + block->arena_used;
  block->arena_used += bytes;
  if (block->arena_used > kArenaBytes) fail("a block uses more shared memory than any GPU has");
  return data;
#endif
}

}  // namespace

void open_shared_memory(Block* block) {
#ifndef EMU_ASAN
  if (free_arenas.empty())
    free_arenas.push_back(static_cast<char*>(aligned_alloc(kAlignment, kArenaBytes)));
  block->arena = free_arenas.back();
  free_arenas.pop_back();
#endif
  (void)block;
}

void close_shared_memory(Block* block) {
#if defined(EMU_ASAN)
  for (int i = 0; i < block->num_arrays; ++i) free(block->arrays[i].data);
#elif defined(EMU_TSAN)
  used_arenas.push_back(block->arena);  // reuse in one launch would look like a race of two blocks
#else
  free_arenas.push_back(block->arena);
#endif
}

void end_of_launch_shared_memory() {
  free_arenas.insert(free_arenas.end(), used_arenas.begin(), used_arenas.end());
  used_arenas.clear();
}

void* shared_array(const void* key, size_t bytes) {
  Block* block = current_thread()->block;
  for (int i = 0; i < block->num_arrays; ++i) {
    if (block->arrays[i].key == key) return block->arrays[i].data;
  }
  if (block->num_arrays == 32) fail("a block has more than 32 shared arrays");
  char* data = allocate(block, bytes);
  // Byte by byte through volatile: TSan must not take this for an access of the calling thread.
  for (size_t i = 0; i < bytes; ++i) const_cast<volatile char*>(data)[i] = static_cast<char>(0xff);
  block->arrays[block->num_arrays++] = {key, data};
  return data;
}

void* dynamic_shared() {
  const size_t bytes = current_launch->shape.shared_bytes;
  return shared_array(nullptr, bytes ? bytes : 1);
}

}  // namespace emu

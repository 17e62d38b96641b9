// Work in fixed chunks on the thread pool of torch (its OpenMP pool: no second one appears).
#pragma once
#include <torch/csrc/stable/ops.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <new>

namespace lets {

// Calls f(chunk) for every chunk in [0, num_chunks); f must write to places of its own chunk only,
// so results do not depend on who ran what. A thread works through a part of its own, the same at
// every call of one size: neighbouring chunks are neighbours in memory, and results lie in its own
// cache from the call before. Then it helps the others: a split without that waits for whichever
// core is busy with something else.
template <typename F>
void parallel_chunks(int64_t num_chunks, const F& f) {
  constexpr int64_t kMaxParts = 64;
  struct alignas(64) Part {
    std::atomic<int64_t> next;
    int64_t end;
  };
  int64_t num_parts = num_chunks > 1 ? torch::stable::get_num_threads() : 1;
  num_parts = num_parts < num_chunks ? num_parts : num_chunks;
  num_parts = num_parts < kMaxParts ? num_parts : kMaxParts;
  if (num_parts <= 1) {
    for (int64_t chunk = 0; chunk < num_chunks; ++chunk) f(chunk);
    return;
  }
  Part parts[kMaxParts];
  for (int64_t i = 0; i < num_parts; ++i) {
    parts[i].next.store(num_chunks * i / num_parts, std::memory_order_relaxed);
    parts[i].end = num_chunks * (i + 1) / num_parts;
  }
  torch::stable::parallel_for(0, num_parts, 1, [&](int64_t own, int64_t) {
    for (int64_t i = 0; i < num_parts; ++i) {
      Part& part = parts[(own + i) % num_parts];
      for (int64_t chunk; (chunk = part.next.fetch_add(1, std::memory_order_relaxed)) < part.end;)
        f(chunk);
    }
  });
}

// Memory of the calling thread, kept between calls: kernels themselves never allocate.
inline void* thread_scratch(size_t bytes) {
  struct Buffer {
    void* data = nullptr;
    size_t size = 0;
    ~Buffer() { release(); }
    void release() { ::operator delete(data, std::align_val_t{64}); }
  };
  thread_local Buffer buffer;
  if (buffer.size < bytes) {
    buffer.release();
    buffer.data = nullptr;
    buffer.size = 0;
    buffer.data = ::operator new(bytes, std::align_val_t{64});
    buffer.size = bytes;
  }
  return buffer.data;
}

}  // namespace lets

// Work in fixed chunks on the thread pool of torch (its OpenMP pool: no second one appears).
#pragma once
#include <torch/csrc/stable/ops.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <new>

namespace lets {

// Calls f(chunk) for every chunk in [0, num_chunks). Chunks are handed out dynamically, because a
// static split waits for whichever core is busy with something else; f must write to places of its
// own chunk only, so results do not depend on who ran what.
template <typename F>
void parallel_chunks(int64_t num_chunks, const F& f) {
  const int64_t threads = num_chunks > 1 ? torch::stable::get_num_threads() : 1;
  if (threads <= 1) {
    for (int64_t chunk = 0; chunk < num_chunks; ++chunk) f(chunk);
    return;
  }
  std::atomic<int64_t> next{0};
  const int64_t workers = threads < num_chunks ? threads : num_chunks;
  torch::stable::parallel_for(0, workers, 1, [&](int64_t, int64_t) {
    for (int64_t chunk; (chunk = next.fetch_add(1, std::memory_order_relaxed)) < num_chunks;)
      f(chunk);
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

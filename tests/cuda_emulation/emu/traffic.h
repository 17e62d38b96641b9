// Memory traffic of emulated kernels. Kernels are compiled with -fsanitize=thread but linked with
// traffic.cpp in place of TSan, so the compiler hands over every load and store. The i-th execution
// of one instruction by each lane of a warp counts as one request: exact for uniform loops, close
// to it where lanes diverge.
#pragma once
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>

namespace emu {

// Bytes in 32-byte sectors: touched at least once (what device memory has to move), and summed over
// requests (what the caches have to serve).
struct BufferTraffic {
  int64_t read = 0, read_requested = 0, written = 0, write_requested = 0;
};

struct Traffic {
  std::map<std::string, BufferTraffic> buffers;
  int64_t shared_requests = 0, shared_wavefronts = 0;  // equal without bank conflicts
};

// Only accesses to named buffers and to shared memory count.
void name_buffer(const std::string& name, const void* data, size_t bytes);
void start_counting();    // forgets buffers and counts
Traffic stop_counting();  // since start_counting

void count_access(const void* address, size_t bytes, bool write);

template <typename T>
__attribute__((no_sanitize("thread"), noinline)) void copy_uncounted(T* to, const T* from) {
  *to = *from;
}

}  // namespace emu

// Stands in for libtorch's thread pool where ThreadSanitizer watches: it cannot see how OpenMP
// waits for its threads, but sees these. Preloaded, so that the extension calls these two instead.
#include <algorithm>
#include <cstdint>
#include <thread>
#include <vector>

namespace {
constexpr uint32_t kThreads = 4;
}

extern "C" int32_t torch_get_num_threads(uint32_t* count) {
  *count = kThreads;
  return 0;
}

extern "C" int32_t torch_parallel_for(int64_t begin, int64_t end, int64_t grain,
                                      void (*run)(int64_t, int64_t, void*), void* context) {
  const int64_t size = std::max<int64_t>(grain, (end - begin + kThreads - 1) / kThreads);
  std::vector<std::thread> threads;
  for (int64_t first = begin; first < end; first += size)
    threads.emplace_back(run, first, std::min(end, first + size), context);
  for (std::thread& thread : threads) thread.join();
  return 0;
}

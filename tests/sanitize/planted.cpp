// Bugs that the sanitizers must find, or their silence about the extension means nothing.
#include <cstdint>

extern "C" int32_t torch_parallel_for(int64_t, int64_t, int64_t, void (*)(int64_t, int64_t, void*),
                                      void*);

extern "C" int read_past_the_end(int size) {
  int* values = new int[size]();
  volatile int* place = values + size;
  const int value = *place;
  delete[] values;
  return value;
}

#ifdef PLANT_RACE
extern "C" int64_t count_without_lock() {
  int64_t count = 0;
  const auto add = [](int64_t begin, int64_t end, void* context) {
    for (int64_t i = begin; i < end; ++i) ++*static_cast<int64_t*>(context);
  };
  torch_parallel_for(0, 100000, 1, add, &count);
  return count;
}
#endif

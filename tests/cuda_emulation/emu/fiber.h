// A stack for every CUDA thread and the switch between them; ASan and TSan are told of each switch.
#pragma once
#include <cstddef>
#if !defined(__x86_64__)
#include <ucontext.h>
#endif

namespace emu {

constexpr size_t kStackBytes = 64 << 10, kGuardBytes = 4096;

class Fiber {
 public:
  Fiber();
  // The next resume() starts entry(), which must end with finish() and never return.
  void prepare(void (*entry)());
  void resume();   // host -> fiber; returns at the fiber's suspend() or finish()
  void suspend();  // fiber -> host
  [[noreturn]] void finish();
  void recycle();  // after finish() or instead of it: the stack may be used again

  bool owns(const void* address) const {
    const auto* byte = static_cast<const char*>(address);
    return byte >= memory_ && byte < memory_ + kGuardBytes + kStackBytes;
  }

  static void started();  // first thing a fiber does

 private:
  void leave(bool forever);

  char* memory_;  // guard page, then the stack
#if defined(__x86_64__)
  void* stack_pointer_ = nullptr;
#else
  ucontext_t context_;
#endif
  void* asan_stack_ = nullptr;
  void* tsan_fiber_ = nullptr;
};

// Happens-before edges for TSan; nothing in other builds.
void release(void* object);
void acquire(void* object);

}  // namespace emu

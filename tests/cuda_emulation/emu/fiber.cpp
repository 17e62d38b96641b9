#include "fiber.h"

#include <sys/mman.h>

#include <cstdio>
#include <cstdlib>
#ifdef EMU_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#ifdef EMU_TSAN
extern "C" {
void* __tsan_get_current_fiber(void);
void* __tsan_create_fiber(unsigned);
void __tsan_switch_to_fiber(void*, unsigned);
void __tsan_acquire(void*);
void __tsan_release(void*);
}
#endif

#if defined(__x86_64__)
// Saves the callee-saved registers and swaps stacks: 2 ns, where swapcontext makes system calls.
extern "C" void emu_swap_stacks(void** from, void* to);
asm(R"(
.text
.globl emu_swap_stacks
.type emu_swap_stacks,@function
emu_swap_stacks:
  pushq %rbp; pushq %rbx; pushq %r12; pushq %r13; pushq %r14; pushq %r15
  movq %rsp,(%rdi); movq %rsi,%rsp
  popq %r15; popq %r14; popq %r13; popq %r12; popq %rbx; popq %rbp
  ret
.size emu_swap_stacks,.-emu_swap_stacks
)");
#endif

namespace emu {
namespace {

#if defined(__x86_64__)
void* host_stack_pointer;
#else
ucontext_t host_context;
#endif
#ifdef EMU_ASAN
void* host_asan_stack;
const void* host_stack;
size_t host_stack_bytes;
#endif
#ifdef EMU_TSAN
void* host_tsan_fiber;
#endif

}  // namespace

Fiber::Fiber() {
  void* memory = mmap(nullptr, kStackBytes + kGuardBytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED || mprotect(memory, kGuardBytes, PROT_NONE)) {
    perror("emulator: cannot map a stack");
    abort();
  }
  memory_ = static_cast<char*>(memory);
#ifdef EMU_TSAN
  // Kept with its stack, because creating one takes about 0.6 ms. Reuse orders only the successive
  // users of one stack, and stacks are drawn at random.
  tsan_fiber_ = __tsan_create_fiber(0);
#endif
}

void Fiber::prepare(void (*entry)()) {
#if defined(__x86_64__)
  auto** top = reinterpret_cast<void**>(memory_ + kGuardBytes + kStackBytes - 64);
  *--top = nullptr;  // keeps the stack pointer at 8 mod 16, as after a call
  *--top = reinterpret_cast<void*>(entry);
  for (int saved = 0; saved < 6; ++saved) *--top = nullptr;
  stack_pointer_ = top;
#else
  getcontext(&context_);
  context_.uc_stack.ss_sp = memory_ + kGuardBytes;
  context_.uc_stack.ss_size = kStackBytes;
  context_.uc_link = nullptr;
  makecontext(&context_, entry, 0);
#endif
  asan_stack_ = nullptr;
}

void Fiber::started() {
#ifdef EMU_ASAN
  __sanitizer_finish_switch_fiber(nullptr, &host_stack, &host_stack_bytes);
#endif
}

void Fiber::resume() {
#ifdef EMU_ASAN
  __sanitizer_start_switch_fiber(&host_asan_stack, memory_ + kGuardBytes, kStackBytes);
#endif
#ifdef EMU_TSAN
  host_tsan_fiber = __tsan_get_current_fiber();
  __tsan_switch_to_fiber(tsan_fiber_, 1);  // 1: a switch orders nothing
#endif
#if defined(__x86_64__)
  emu_swap_stacks(&host_stack_pointer, stack_pointer_);
#else
  swapcontext(&host_context, &context_);
#endif
#ifdef EMU_ASAN
  __sanitizer_finish_switch_fiber(host_asan_stack, nullptr, nullptr);
#endif
}

void Fiber::leave(bool forever) {
#ifdef EMU_ASAN
  __sanitizer_start_switch_fiber(forever ? nullptr : &asan_stack_, host_stack, host_stack_bytes);
#endif
#ifdef EMU_TSAN
  __tsan_switch_to_fiber(host_tsan_fiber, 1);
#endif
#if defined(__x86_64__)
  emu_swap_stacks(&stack_pointer_, host_stack_pointer);
#else
  swapcontext(&context_, &host_context);
#endif
#ifdef EMU_ASAN
  __sanitizer_finish_switch_fiber(asan_stack_, &host_stack, &host_stack_bytes);
#endif
  (void)forever;
}

void Fiber::suspend() { leave(false); }

void Fiber::finish() {
  leave(true);
  abort();
}

void Fiber::recycle() {
#ifdef EMU_ASAN
  __asan_unpoison_memory_region(memory_ + kGuardBytes, kStackBytes);
#endif
}

void release(void* object) {
#ifdef EMU_TSAN
  __tsan_release(object);
#endif
  (void)object;
}

void acquire(void* object) {
#ifdef EMU_TSAN
  __tsan_acquire(object);
#endif
  (void)object;
}

}  // namespace emu

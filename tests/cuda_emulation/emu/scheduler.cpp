#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#ifdef EMU_TSAN
#include <unistd.h>
#endif

#include "state.h"

namespace emu {

Indices* running = nullptr;
Launch* current_launch = nullptr;

namespace {

uint64_t seed_value = 1, random_state = 1;
std::vector<Thread*>& idle_threads = *new std::vector<Thread*>;  // with their stacks; never freed

void run_thread() {
  Fiber::started();
  acquire(&current_launch->begin_edge);
  (*current_launch->body)();
  Thread* t = current_thread();
  t->status = Status::kDone;
  release(&current_launch->end_edge);
  t->fiber.finish();
}

Thread* take_thread() {
  Thread* t;
  if (idle_threads.empty()) {
    t = new Thread;
  } else {
    const size_t i = random_number() % idle_threads.size();
    t = idle_threads[i];
    idle_threads[i] = idle_threads.back();
    idle_threads.pop_back();
  }
  t->status = Status::kReady;
  t->block_phase = t->grid_phase = t->warp_phase = 0;
  t->site = {};
  t->copies.count = t->copies.group = 0;
  t->fiber.prepare(run_thread);
  return t;
}

void start_block(int64_t number) {
  Launch* l = current_launch;
  const dim3 grid = l->shape.grid, size = l->shape.block;
  auto block = std::make_unique<Block>();
  open_shared_memory(block.get());
  const uint3 index{static_cast<unsigned>(number % grid.x),
                    static_cast<unsigned>(number / grid.x % grid.y),
                    static_cast<unsigned>(number / (static_cast<int64_t>(grid.x) * grid.y))};
  const unsigned num_threads = size.x * size.y * size.z;
  l->ready.reserve(l->live +
                   num_threads);  // threads of the kernel push to it: never allocate there
  for (unsigned i = 0; i < num_threads; ++i) {
    Thread* t = take_thread();
    t->block = block.get();
    t->number = static_cast<int>(i);
    t->indices = {{i % size.x, i / size.x % size.y, i / (size.x * size.y)}, index, size, grid};
    block->threads.push_back(t);
    l->ready.push_back(t);
  }
  block->live = static_cast<int>(num_threads);
  l->live += num_threads;
  l->blocks.push_back(std::move(block));
  release(&l->begin_edge);  // the host acquires at the end only, so this orders no two blocks
}

void end_blocks() {
  if (count_blocks_done) count_blocks_done();
  for (auto& block : current_launch->blocks) {
    for (Thread* t : block->threads) {
      t->fiber.recycle();
      idle_threads.push_back(t);
    }
    close_shared_memory(block.get());
  }
  current_launch->blocks.clear();
}

void thread_exited(Thread* t) {
  Block* block = t->block;
  --block->live;
  --current_launch->live;
  block->exited[t->number >> 5] |= 1u << (t->number & 31);
  if (block->waiting && current_launch->error.empty()) {
    current_launch->error = format("thread %d exited, others wait in __syncthreads() at %s:%d",
                                   t->number, block->barrier.file, block->barrier.line);
  }
}

std::string deadlock() {
  std::string message = "deadlock; waiting threads:";
  int shown = 0;
  for (auto& block : current_launch->blocks) {
    for (const Thread* t : block->threads) {
      if (t->status == Status::kDone || shown++ >= 4) continue;
      message += "\n    " + place(t);
      if (t->status == Status::kAtWarpOperation) message += format(" in %s", t->what);
    }
  }
  return message;
}

void run_ready_threads() {
  Launch* l = current_launch;
  while (!l->ready.empty() && l->error.empty()) {
    const size_t i = random_number() % l->ready.size();
    Thread* t = l->ready[i];
    l->ready[i] = l->ready.back();
    l->ready.pop_back();
    running = &t->indices;
    t->fiber.resume();
    running = nullptr;
    if (t->status == Status::kDone) thread_exited(t);
    if (l->live && l->waiting == l->live) {
      l->waiting = 0;
      for (auto& block : l->blocks) {
        for (Thread* waiting : block->threads) {
          if (waiting->status == Status::kAtGridBarrier) make_ready(waiting);
        }
      }
    }
  }
  if (l->error.empty() && l->live) l->error = deadlock();
}

std::string launch_error(const LaunchShape& s) {
  const int64_t threads = static_cast<int64_t>(s.block.x) * s.block.y * s.block.z;
  if (threads < 1 || threads > 1024) return format("bad block size %lld", (long long)threads);
  if (s.shared_bytes > 227 * 1024) return "more than 227 KB of dynamic shared memory";
  if (!s.grid.x || !s.grid.y || !s.grid.z || s.grid.x > 0x7fffffffu || s.grid.y > 65535 ||
      s.grid.z > 65535)
    return format("bad grid size (%u, %u, %u)", s.grid.x, s.grid.y, s.grid.z);
  return "";
}

}  // namespace

void set_seed(uint64_t seed) { seed_value = seed; }

uint64_t random_number() {
  random_state ^= random_state << 13;
  random_state ^= random_state >> 7;
  random_state ^= random_state << 17;
  return random_state;
}

// Indices is the first member of Thread.
Thread* current_thread() { return reinterpret_cast<Thread*>(running); }
int lane_id() { return current_thread()->number & 31; }

void make_ready(Thread* thread) {
  thread->status = Status::kReady;
  current_launch->ready.push_back(thread);
}

std::string format(const char* text, ...) {
  char buffer[512];
  va_list arguments;
  va_start(arguments, text);
  vsnprintf(buffer, sizeof(buffer), text, arguments);
  va_end(arguments);
  return buffer;
}

std::string place(const Thread* t) {
  const uint3 b = t->indices.block;
  return format("block (%u, %u, %u) thread %d at %s:%d", b.x, b.y, b.z, t->number, t->site.file,
                t->site.line);
}

void fail(const std::string& message) {
  if (current_launch->error.empty()) current_launch->error = message;
  release(&current_launch->end_edge);
  current_thread()->fiber.suspend();
  abort();
}

void launch(const LaunchShape& shape, const std::function<void()>& body) {
  const std::string bad_shape = launch_error(shape);
  if (!bad_shape.empty()) throw Error(std::string(shape.name) + ": " + bad_shape);
  Launch l{};
  l.shape = shape;
  l.body = &body;
  current_launch = &l;
  random_state = (seed_value + 1) * 0x9e3779b97f4a7c15ull | 1;
  for (int i = 0; i < 8; ++i) random_number();

  const int64_t blocks = static_cast<int64_t>(shape.grid.x) * shape.grid.y * shape.grid.z;
  std::vector<int64_t> order(blocks);
  for (int64_t i = 0; i < blocks; ++i) {
    const int64_t j = static_cast<int64_t>(random_number() % (i + 1));
    order[i] = order[j];
    order[j] = i;
  }
  // A cooperative grid is on the machine as a whole, other blocks come two at a time.
  const int64_t resident = shape.cooperative ? blocks : 2;
  for (int64_t first = 0; first < blocks && l.error.empty(); first += resident) {
    for (int64_t i = first; i < blocks && i < first + resident; ++i) start_block(order[i]);
    run_ready_threads();
    end_blocks();
  }
  acquire(&l.end_edge);
  end_of_launch_shared_memory();
  current_launch = nullptr;
  if (l.error.empty()) return;
#ifdef EMU_TSAN
  // Stuck threads were never joined; unwinding their memory would look like a race.
  fprintf(stderr, "emulator: %s: %s\n", shape.name, l.error.c_str());
  fflush(stdout);
  _exit(3);
#else
  throw Error(std::string(shape.name) + ": " + l.error);
#endif
}

}  // namespace emu

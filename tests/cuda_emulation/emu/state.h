// State of a launch: its blocks and threads. Only the emulator's own files include this.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "fiber.h"
#include "runtime.h"

namespace emu {

enum class Status : uint8_t { kReady, kAtBlockBarrier, kAtWarpOperation, kAtGridBarrier, kDone };

struct Block;

struct CopyQueue {
  struct Entry {
    AsyncCopy copy;
    int group;
  };
  Entry entries[64];  // a ring
  int first = 0, count = 0;
  int group = 0;  // the one that copies are added to
};

struct Thread {
  Indices indices;
  Fiber fiber;
  Block* block = nullptr;
  int number = 0;  // in its block
  Status status = Status::kReady;
  Site site;                   // of the barrier or warp operation it waits at
  unsigned mask = 0;           // of that warp operation
  const char* what = nullptr;  // its name
  void* argument = nullptr;    // and operand
  int block_phase = 0, grid_phase = 0, warp_phase = 0;
  CopyQueue copies;
  char warp_edge[2];  // addresses for happens-before edges, one per parity of the phase
};

struct SharedArray {
  const void* key;
  char* data;
};

struct Block {
  std::vector<Thread*> threads;
  int live = 0, waiting = 0;  // waiting: at the block's barrier
  Site barrier;
  unsigned at_operation[32] = {}, exited[32] = {};  // lanes, per warp
  SharedArray
      arrays[32];  // no vector: threads of the kernel add to it, and TSan sees them allocate
  int num_arrays = 0;
  char* arena = nullptr;
  size_t arena_used = 0;
  char edge[2];
};

struct Launch {
  LaunchShape shape;
  const std::function<void()>* body;
  int64_t live = 0, waiting = 0;  // waiting: at the grid's barrier
  std::vector<Thread*> ready;
  std::vector<std::unique_ptr<Block>> blocks;  // that are on the machine now
  std::string error;
  char edge[2], begin_edge, end_edge;
};

extern Launch* current_launch;
Thread* current_thread();
uint64_t random_number();

void make_ready(Thread* thread);
std::string place(const Thread* thread);
std::string format(const char* text, ...) __attribute__((format(printf, 1, 2)));
// Ends the launch with a message; the calling thread never goes on.
[[noreturn]] void fail(const std::string& message);
void release_block_barrier(Block* block);

// Of the traffic model; null without it.
__attribute__((weak)) void count_blocks_done();

void open_shared_memory(Block* block);
void close_shared_memory(Block* block);
void end_of_launch_shared_memory();

}  // namespace emu

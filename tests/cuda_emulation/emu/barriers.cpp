#include <cstring>

#include "state.h"

namespace emu {
namespace {

bool same(Site a, Site b) { return a.line == b.line && !strcmp(a.file, b.file); }

char fence_edge;

}  // namespace

void fence() {
  acquire(&fence_edge);
  release(&fence_edge);
}

void release_block_barrier(Block* block) {
  block->waiting = 0;
  for (Thread* t : block->threads) {
    if (t->status == Status::kAtBlockBarrier) make_ready(t);
  }
}

void sync_block(Site site) {
  Thread* t = current_thread();
  Block* block = t->block;
  t->site = site;
  if (block->waiting == 0) {
    block->barrier = site;
  } else if (!same(block->barrier, site)) {
    fail(format("divergent __syncthreads(): %s:%d and ", block->barrier.file, block->barrier.line) +
         place(t));
  }
  const int size = static_cast<int>(block->threads.size());
  if (block->live < size) fail("__syncthreads() after a thread of the block exited: " + place(t));
  char* edge = &block->edge[t->block_phase++ & 1];
  release(edge);
  t->status = Status::kAtBlockBarrier;
  if (++block->waiting == size) release_block_barrier(block);
  t->fiber.suspend();
  acquire(edge);
}

void sync_grid(Site site) {
  Thread* t = current_thread();
  Launch* launch = current_launch;
  t->site = site;
  if (!launch->shape.cooperative)
    fail("grid sync in a launch that is not cooperative: " + place(t));
  char* edge = &launch->edge[t->grid_phase++ & 1];
  release(edge);
  t->status = Status::kAtGridBarrier;
  ++launch->waiting;
  t->fiber.suspend();
  acquire(edge);
}

void warp_operation(unsigned mask, void* argument, Combine combine, const char* what, Site site) {
  Thread* t = current_thread();
  Block* block = t->block;
  const int lane = t->number & 31, warp = t->number >> 5, first = warp * 32;
  t->site = site;
  t->mask = mask;
  t->what = what;
  t->argument = argument;
  if (!(mask >> lane & 1)) fail(format("%s: mask %08x lacks the caller: ", what, mask) + place(t));
  const int size = static_cast<int>(block->threads.size()) - first;  // the last warp may be partial
  const unsigned lanes = mask & (size >= 32 ? ~0u : (1u << size) - 1);
  if (lanes & block->exited[warp])
    fail(format("%s: mask %08x names lanes that exited: ", what, mask) + place(t));
  t->status = Status::kAtWarpOperation;
  block->at_operation[warp] |= 1u << lane;
  if ((block->at_operation[warp] & lanes) == lanes) {
    void* arguments[32] = {};
    for (int i = 0; i < 32; ++i) {
      if (!(lanes >> i & 1)) continue;
      const Thread* other = block->threads[first + i];
      if (other->mask != mask || strcmp(other->what, what) || !same(other->site, site)) {
        fail(format("divergent warp operation: %s mask %08x at %s:%d, but ", what, mask, site.file,
                    site.line) +
             other->what + format(" mask %08x in ", other->mask) + place(other));
      }
      arguments[i] = other->argument;
    }
    if (combine) combine(arguments, mask);
    block->at_operation[warp] &= ~lanes;
    for (int i = 0; i < 32; ++i) {
      if (lanes >> i & 1) make_ready(block->threads[first + i]);
    }
  }
  t->fiber.suspend();
}

// Orders memory among exactly the lanes of the mask.
void sync_warp(unsigned mask, Site site) {
  struct Edges {
    char* mine;
    char* all[32];
  } edges{};
  Thread* t = current_thread();
  edges.mine = &t->warp_edge[t->warp_phase++ & 1];
  release(edges.mine);
  const auto exchange = [](void* const lanes[32], unsigned) {
    for (int to = 0; to < 32; ++to) {
      for (int from = 0; lanes[to] && from < 32; ++from) {
        if (lanes[from])
          static_cast<Edges*>(lanes[to])->all[from] = static_cast<Edges*>(lanes[from])->mine;
      }
    }
  };
  warp_operation(mask, &edges, exchange, "__syncwarp", site);
  for (char* edge : edges.all) {
    if (edge) acquire(edge);
  }
}

}  // namespace emu

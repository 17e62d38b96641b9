// Asynchronous copies of a thread: kept until it waits for their group.
#include "state.h"

namespace emu {

void add_copy(const AsyncCopy& copy) {
  CopyQueue& q = current_thread()->copies;
  constexpr int kEntries = sizeof(q.entries) / sizeof(q.entries[0]);
  if (q.count == kEntries) fail("a thread has too many copies on their way");
  q.entries[(q.first + q.count++) % kEntries] = {copy, q.group};
}

void end_copy_group() { ++current_thread()->copies.group; }

bool next_copy(int pending_groups, AsyncCopy* copy) {
  CopyQueue& q = current_thread()->copies;
  constexpr int kEntries = sizeof(q.entries) / sizeof(q.entries[0]);
  if (q.count == 0 || q.entries[q.first].group >= q.group - pending_groups) return false;
  *copy = q.entries[q.first].copy;
  q.first = (q.first + 1) % kEntries;
  --q.count;
  return true;
}

}  // namespace emu

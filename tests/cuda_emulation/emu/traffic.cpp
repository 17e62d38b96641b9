#include "emu/traffic.h"

#include <algorithm>
#include <tuple>
#include <unordered_map>
#include <vector>

#include "emu/state.h"

namespace emu {
namespace {

constexpr uintptr_t kSector = 32, kBankBytes = 4, kBanks = 32;

struct Buffer {
  std::string name;
  uintptr_t begin, end;
  std::vector<bool> read, written;  // per sector
  BufferTraffic traffic;
};

struct Access {
  uint64_t instruction;  // its address, and whether it writes
  uint32_t occurrence;
  uint8_t bytes, lane;
  int buffer;  // -1: shared memory
  uintptr_t address;
  bool same_request(const Access& o) const {
    return instruction == o.instruction && occurrence == o.occurrence && buffer == o.buffer;
  }
};

std::vector<Buffer> buffers;
Traffic total;
std::unordered_map<uint64_t, uint32_t> occurrences;  // of an instruction in a thread
std::map<std::pair<const Block*, int>, std::vector<Access>> warps;

template <typename F>
void each_unit(const Access& a, uintptr_t unit, const F& f) {
  for (uintptr_t i = a.address / unit; i <= (a.address + a.bytes - 1) / unit; ++i) f(i);
}

int64_t count_distinct(std::vector<uintptr_t>& units) {
  std::sort(units.begin(), units.end());
  units.erase(std::unique(units.begin(), units.end()), units.end());
  return static_cast<int64_t>(units.size());
}

// Wide accesses go in passes of a half or a quarter of a warp; a pass takes as many wavefronts as
// the bank with the most different words.
int64_t wavefronts(const Access* begin, const Access* end) {
  const int lanes = begin->bytes >= 16 ? 8 : begin->bytes >= 8 ? 16 : 32;
  int64_t result = 0;
  while (begin < end) {
    const int pass = begin->lane / lanes;
    std::vector<uintptr_t> words;
    for (; begin < end && begin->lane / lanes == pass; ++begin)
      each_unit(*begin, kBankBytes, [&](uintptr_t w) { words.push_back(w); });
    count_distinct(words);
    int64_t per_bank[kBanks] = {};
    for (const uintptr_t word : words) ++per_bank[word % kBanks];
    result += *std::max_element(per_bank, per_bank + kBanks);
  }
  return result;
}

void count_request(const Access* begin, const Access* end) {
  if (begin->buffer < 0) {
    ++total.shared_requests;
    total.shared_wavefronts += wavefronts(begin, end);
    return;
  }
  std::vector<uintptr_t> sectors;
  for (const Access* a = begin; a < end; ++a)
    each_unit(*a, kSector, [&](uintptr_t s) { sectors.push_back(s); });
  BufferTraffic& traffic = buffers[begin->buffer].traffic;
  (begin->instruction & 1 ? traffic.write_requested : traffic.read_requested) +=
      count_distinct(sectors) * static_cast<int64_t>(kSector);
}

bool in_shared_memory(const Block* block, const void* address) {
  const auto* byte = static_cast<const char*>(address);
  return byte >= block->arena && byte < block->arena + block->arena_used;
}

void count(const void* address, size_t bytes, bool write, const void* call) {
  if (!running) return;
  const Thread* t = current_thread();
  if (t->fiber.owns(address)) return;
  const auto at = reinterpret_cast<uintptr_t>(address);
  int buffer = -1;
  if (!in_shared_memory(t->block, address)) {
    const auto found = std::find_if(buffers.begin(), buffers.end(),
                                    [&](const Buffer& b) { return at >= b.begin && at < b.end; });
    if (found == buffers.end()) return;  // parameters, thread indices
    buffer = static_cast<int>(found - buffers.begin());
  }
  const uint64_t instruction = reinterpret_cast<uintptr_t>(call) * 2 + write;
  const uint64_t thread = reinterpret_cast<uintptr_t>(t->block) * 1024 + t->number;
  uint32_t& occurrence =
      occurrences[instruction * 0x9e3779b97f4a7c15ull ^ thread * 0xc2b2ae3d27d4eb4full];
  const Access access{instruction,
                      occurrence++,
                      static_cast<uint8_t>(bytes),
                      static_cast<uint8_t>(t->number % 32),
                      buffer,
                      at};
  if (buffer >= 0) {
    Buffer& b = buffers[buffer];
    each_unit(access, kSector,
              [&](uintptr_t s) { (write ? b.written : b.read)[s - b.begin / kSector] = true; });
  }
  warps[{t->block, t->number / 32}].push_back(access);
}

}  // namespace

void name_buffer(const std::string& name, const void* data, size_t bytes) {
  const auto begin = reinterpret_cast<uintptr_t>(data);
  const size_t sectors = (begin + bytes) / kSector - begin / kSector + 1;
  buffers.push_back(
      {name, begin, begin + bytes, std::vector<bool>(sectors), std::vector<bool>(sectors), {}});
}

void start_counting() {
  buffers.clear();
  total = {};
}

Traffic stop_counting() {
  for (Buffer& b : buffers) {
    b.traffic.read = std::count(b.read.begin(), b.read.end(), true) * kSector;
    b.traffic.written = std::count(b.written.begin(), b.written.end(), true) * kSector;
    total.buffers[b.name] = b.traffic;
  }
  buffers.clear();
  return total;
}

void count_blocks_done() {
  for (auto& [warp, accesses] : warps) {
    std::sort(accesses.begin(), accesses.end(), [](const Access& a, const Access& b) {
      return std::tie(a.instruction, a.occurrence, a.buffer, a.lane) <
             std::tie(b.instruction, b.occurrence, b.buffer, b.lane);
    });
    const Access *a = accesses.data(), *end = a + accesses.size();
    while (a < end) {
      const Access* next = a + 1;
      while (next < end && next->same_request(*a)) ++next;
      count_request(a, next);
      a = next;
    }
  }
  warps.clear();
  occurrences.clear();
}

__attribute__((noinline)) void count_access(const void* address, size_t bytes, bool write) {
  count(address, bytes, write, __builtin_return_address(0));
}

}  // namespace emu

// What the compiler calls.
extern "C" {
void __tsan_read1(void* p) { emu::count(p, 1, false, __builtin_return_address(0)); }
void __tsan_write1(void* p) { emu::count(p, 1, true, __builtin_return_address(0)); }
void __tsan_read2(void* p) { emu::count(p, 2, false, __builtin_return_address(0)); }
void __tsan_write2(void* p) { emu::count(p, 2, true, __builtin_return_address(0)); }
void __tsan_read4(void* p) { emu::count(p, 4, false, __builtin_return_address(0)); }
void __tsan_write4(void* p) { emu::count(p, 4, true, __builtin_return_address(0)); }
void __tsan_read8(void* p) { emu::count(p, 8, false, __builtin_return_address(0)); }
void __tsan_write8(void* p) { emu::count(p, 8, true, __builtin_return_address(0)); }
void __tsan_read16(void* p) { emu::count(p, 16, false, __builtin_return_address(0)); }
void __tsan_write16(void* p) { emu::count(p, 16, true, __builtin_return_address(0)); }
void __tsan_unaligned_read2(void* p) { emu::count(p, 2, false, __builtin_return_address(0)); }
void __tsan_unaligned_write2(void* p) { emu::count(p, 2, true, __builtin_return_address(0)); }
void __tsan_unaligned_read4(void* p) { emu::count(p, 4, false, __builtin_return_address(0)); }
void __tsan_unaligned_write4(void* p) { emu::count(p, 4, true, __builtin_return_address(0)); }
void __tsan_unaligned_read8(void* p) { emu::count(p, 8, false, __builtin_return_address(0)); }
void __tsan_unaligned_write8(void* p) { emu::count(p, 8, true, __builtin_return_address(0)); }
void __tsan_unaligned_read16(void* p) { emu::count(p, 16, false, __builtin_return_address(0)); }
void __tsan_unaligned_write16(void* p) { emu::count(p, 16, true, __builtin_return_address(0)); }
void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_vptr_update(void**, void*) {}
void __tsan_vptr_read(void**) {}
void __tsan_read_range(void*, size_t) {}
void __tsan_write_range(void*, size_t) {}
}  // extern "C"

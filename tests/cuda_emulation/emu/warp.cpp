// Warp operations: shuffles, votes, the tensor-core product. All of them move data and order no
// memory; the volatile copies keep the compiler from holding a lane's operand in a register.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstring>

#include "runtime.h"

namespace emu {
namespace {

struct Shuffle {
  unsigned char in[16], out[16];
  unsigned bytes;
  int source;
};

struct Vote {
  bool predicate;
  unsigned result;
};

struct Match {
  uint32_t value;
  unsigned result;
};

struct Mma {
  float c[4];
  uint32_t a[4], b[2];
  bool bfloat16;
};

float half_of_pair(uint32_t pair, int index, bool bfloat16) {
  const auto bits = static_cast<uint16_t>(index ? pair >> 16 : pair);
  if (!bfloat16) return __half2float(__ushort_as_half(bits));
  return __bfloat162float(__ushort_as_bfloat16(bits));
}

// Fragment layouts of mma.m16n8k16: PTX ISA, "Matrix fragments for mma.m16n8k16".
void multiply_fragments(void* const lanes[32], unsigned) {
  float a[16][16], b[16][8];
  for (int lane = 0; lane < 32; ++lane) {
    const auto* f = static_cast<const Mma*>(lanes[lane]);
    const int group = lane >> 2, pair = (lane & 3) * 2;
    for (int i = 0; i < 2; ++i) {
      a[group][pair + i] = half_of_pair(f->a[0], i, f->bfloat16);
      a[group + 8][pair + i] = half_of_pair(f->a[1], i, f->bfloat16);
      a[group][pair + 8 + i] = half_of_pair(f->a[2], i, f->bfloat16);
      a[group + 8][pair + 8 + i] = half_of_pair(f->a[3], i, f->bfloat16);
      b[pair + i][group] = half_of_pair(f->b[0], i, f->bfloat16);
      b[pair + 8 + i][group] = half_of_pair(f->b[1], i, f->bfloat16);
    }
  }
  for (int lane = 0; lane < 32; ++lane) {
    auto* f = static_cast<Mma*>(lanes[lane]);
    for (int i = 0; i < 4; ++i) {
      const int row = (lane >> 2) + (i >> 1) * 8, column = (lane & 3) * 2 + (i & 1);
      double sum = f->c[i];
      for (int k = 0; k < 16; ++k) sum += static_cast<double>(a[row][k]) * b[k][column];
      f->c[i] = static_cast<float>(sum);
    }
  }
}

}  // namespace

void shuffle(void* value, unsigned bytes, int source_lane, unsigned mask, Site site) {
  Shuffle s{};
  s.bytes = bytes;
  s.source = source_lane;
  auto* data = static_cast<volatile unsigned char*>(value);
  for (unsigned i = 0; i < bytes; ++i) s.in[i] = data[i];
  const auto exchange = [](void* const lanes[32], unsigned mask) {
    for (int lane = 0; lane < 32; ++lane) {
      auto* to = static_cast<Shuffle*>(lanes[lane]);
      if (!to) continue;
      const bool valid = to->source >= 0 && to->source < 32 && (mask >> to->source & 1);
      const auto* from = valid ? static_cast<const Shuffle*>(lanes[to->source]) : nullptr;
      // A source outside the mask is undefined in CUDA: poison.
      for (unsigned i = 0; i < to->bytes; ++i) to->out[i] = from ? from->in[i] : 0xff;
    }
  };
  warp_operation(mask, &s, exchange, "shuffle", site);
  for (unsigned i = 0; i < bytes; ++i) data[i] = s.out[i];
}

unsigned ballot(bool predicate, unsigned mask, Site site) {
  Vote vote{predicate, 0};
  const auto count = [](void* const lanes[32], unsigned) {
    unsigned result = 0;
    for (int lane = 0; lane < 32; ++lane) {
      if (lanes[lane] && static_cast<Vote*>(lanes[lane])->predicate) result |= 1u << lane;
    }
    for (int lane = 0; lane < 32; ++lane) {
      if (lanes[lane]) static_cast<Vote*>(lanes[lane])->result = result;
    }
  };
  warp_operation(mask, &vote, count, "ballot", site);
  return vote.result;
}

unsigned match(uint32_t value, unsigned mask, Site site) {
  Match match{value, 0};
  const auto compare = [](void* const lanes[32], unsigned) {
    for (int lane = 0; lane < 32; ++lane) {
      for (int other = 0; lanes[lane] && other < 32; ++other) {
        if (lanes[other] &&
            static_cast<Match*>(lanes[other])->value == static_cast<Match*>(lanes[lane])->value)
          static_cast<Match*>(lanes[lane])->result |= 1u << other;
      }
    }
  };
  warp_operation(mask, &match, compare, "match", site);
  return static_cast<volatile Match&>(match).result;
}

void mma_m16n8k16(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], bool bfloat16,
                  Site site) {
  Mma f;
  f.bfloat16 = bfloat16;
  for (int i = 0; i < 4; ++i) f.c[i] = static_cast<volatile float&>(c[i]);
  for (int i = 0; i < 4; ++i) f.a[i] = static_cast<const volatile uint32_t&>(a[i]);
  for (int i = 0; i < 2; ++i) f.b[i] = static_cast<const volatile uint32_t&>(b[i]);
  warp_operation(0xffffffffu, &f, multiply_fragments, "mma.sync", site);
  for (int i = 0; i < 4; ++i) static_cast<volatile float&>(c[i]) = f.c[i];
}

}  // namespace emu

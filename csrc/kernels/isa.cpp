#include "kernels/isa.h"

#include <atomic>
#include <cstdlib>
#include <cstring>

namespace lets {
namespace {

constexpr Isa kAll[] = {Isa::kBaseline, Isa::kAvx2, Isa::kAvx512};

Isa best_isa() {
#if LETS_HAVE_X86_ISAS
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                    __builtin_cpu_supports("f16c");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") &&
                      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
                      __builtin_cpu_supports("avx512vl");
  return avx512 ? Isa::kAvx512 : avx2 ? Isa::kAvx2 : Isa::kBaseline;
#else
  return Isa::kBaseline;
#endif
}

// An unusable name in the environment leaves the best set: nothing could report it this early.
Isa initial_isa() {
  const char* wanted = std::getenv("LETS_ISA");
  for (Isa isa : kAll)
    if (wanted && std::strcmp(wanted, isa_name(isa)) == 0 && isa <= best_isa()) return isa;
  return best_isa();
}

std::atomic<Isa>& selection() {
  static std::atomic<Isa> isa{initial_isa()};
  return isa;
}

}  // namespace

const char* isa_name(Isa isa) {
  return isa == Isa::kAvx512 ? "avx512" : isa == Isa::kAvx2 ? "avx2" : "baseline";
}

Isa selected_isa() { return selection().load(std::memory_order_relaxed); }

bool select_isa(const char* name) {
  for (Isa isa : kAll) {
    if (std::strcmp(name, isa_name(isa)) == 0 && isa <= best_isa()) {
      selection().store(isa, std::memory_order_relaxed);
      return true;
    }
  }
  return false;
}

}  // namespace lets

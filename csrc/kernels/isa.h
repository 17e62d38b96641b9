// Instruction sets of the CPU kernels. Every file csrc/kernels/*.cpp is compiled once per set, with
// LETS_ISA naming it, and instantiates its entry points as templates over `Isa`, so that the copies
// are different symbols. Such a file must not use inline functions of the standard library: the
// linker keeps one copy of those, and it could be the AVX-512 one.
#pragma once
#include <type_traits>

namespace lets {

enum class Isa { kBaseline = 0, kAvx2 = 1, kAvx512 = 2 };

#ifdef LETS_ISA
inline constexpr Isa kIsa = static_cast<Isa>(LETS_ISA);
#endif

// The best set that was compiled and that this machine has; LETS_ISA=baseline|avx2|avx512 lowers
// it.
Isa selected_isa();
// Returns false when the name is unknown or the machine lacks the set.
bool select_isa(const char* name);
const char* isa_name(Isa isa);

// Calls f with the selected set as a compile-time constant.
template <typename F>
decltype(auto) with_isa(const F& f) {
#if LETS_HAVE_X86_ISAS
  switch (selected_isa()) {
    case Isa::kAvx512:
      return f(std::integral_constant<Isa, Isa::kAvx512>{});
    case Isa::kAvx2:
      return f(std::integral_constant<Isa, Isa::kAvx2>{});
    default:
      break;
  }
#endif
  return f(std::integral_constant<Isa, Isa::kBaseline>{});
}

}  // namespace lets

// Element types of the kernels and the type each one accumulates in.
#pragma once
#include <cstdint>

namespace lets {

// Storage only: bits as in torch.float16 and torch.bfloat16.
struct Half {
  uint16_t bits;
};
struct BFloat16 {
  uint16_t bits;
};

template <typename T>
struct AccumulatorOf {
  using type = T;
};
template <>
struct AccumulatorOf<Half> {
  using type = float;
};
template <>
struct AccumulatorOf<BFloat16> {
  using type = float;
};
template <typename T>
using Accumulator = typename AccumulatorOf<T>::type;

}  // namespace lets

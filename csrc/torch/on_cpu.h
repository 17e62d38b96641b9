// An op whose checks and allocations are the same everywhere is a template over OnCpu or OnCuda
// (torch/cuda.h), the place that it is registered for.
#pragma once
#include "checks.h"

namespace lets {

struct OnCpu {
  // The dispatcher comes here only if all tensors are on the CPU.
  template <typename... Tensors>
  static void check_devices(const char*, const char*, const Tensor&, const Tensors&...) {}

  template <typename F>
  static void with_dtype(const char* op, const Tensor& t, const F& f) {
    lets::with_dtype(op, t, f);
  }
};

}  // namespace lets

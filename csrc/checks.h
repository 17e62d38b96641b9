// Argument checks shared by the tensor side of all ops: "<op>: <argument> must ..., got ...".
#pragma once
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/Exception.h>

#include <initializer_list>
#include <limits>
#include <string>

#include "kernels/dtypes.h"

namespace lets {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

inline std::string shape_string(const Tensor& t) {
  std::string text = "[";
  for (int64_t i = 0; i < t.dim(); ++i) text += (i ? ", " : "") + std::to_string(t.size(i));
  return text + "]";
}

// As Python spells it; types that no op takes by torch's C++ name.
inline const char* dtype_name(const Tensor& t) {
  switch (t.scalar_type()) {
    case ScalarType::Float:
      return "float32";
    case ScalarType::Double:
      return "float64";
    case ScalarType::Half:
      return "float16";
    case ScalarType::BFloat16:
      return "bfloat16";
    case ScalarType::Int:
      return "int32";
    case ScalarType::Long:
      return "int64";
    case ScalarType::Bool:
      return "bool";
    default:
      return torch::headeronly::toString(t.scalar_type());
  }
}

// Indices are int32 and larger tensors were never run: refused, not trusted. An empty dimension
// counts as one, so that products of the others cannot overflow either.
inline void check_elements(const char* op, const char* name, std::initializer_list<int64_t> sizes) {
  constexpr int64_t kMost = std::numeric_limits<int32_t>::max();
  int64_t count = 1;
  for (const int64_t size : sizes) {
    STD_TORCH_CHECK(size <= kMost / count, op, ": ", name,
                    " must have fewer than 2^31 elements; take fewer rows at once");
    if (size > 0) count *= size;
  }
}

inline void check_elements(const char* op, const char* name, const Tensor& t) {
  STD_TORCH_CHECK(t.numel() <= std::numeric_limits<int32_t>::max(), op, ": ", name,
                  " must have fewer than 2^31 elements, got ", shape_string(t),
                  "; take fewer rows at once");
}

// In which the ops sum what they read as t.
inline ScalarType accumulator_dtype(const Tensor& t) {
  return t.scalar_type() == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
}

inline void check_vector(const char* op, const char* name, const Tensor& t, int64_t size,
                         const char* meaning) {
  STD_TORCH_CHECK(t.dim() == 1 && t.size(0) == size, op, ": ", name, " must have shape [", size,
                  "] (", meaning, "), got ", shape_string(t));
}

inline void check_dtype(const char* op, const char* name, const Tensor& t, const char* other,
                        const Tensor& like) {
  STD_TORCH_CHECK(t.scalar_type() == like.scalar_type(), op, ": ", name, " must have the dtype of ",
                  other, " (", dtype_name(like), "), got ", dtype_name(t));
}

inline void check_index(const char* op, const char* name, const Tensor& t, int64_t size,
                        const char* meaning) {
  check_vector(op, name, t, size, meaning);
  STD_TORCH_CHECK(t.scalar_type() == ScalarType::Int && t.is_contiguous(), op, ": ", name,
                  " must be contiguous int32, got ", dtype_name(t),
                  t.is_contiguous() ? "" : " with strides",
                  "; build the layout with DeltaLayout.from_csr");
}

// Calls f with the element type of t as a value of that type.
template <typename F>
decltype(auto) with_dtype(const char* op, const Tensor& t, const F& f) {
  switch (t.scalar_type()) {
    case ScalarType::Float:
      return f(float{});
    case ScalarType::Double:
      return f(double{});
    case ScalarType::Half:
      return f(Half{});
    case ScalarType::BFloat16:
      return f(BFloat16{});
    default:
      STD_TORCH_CHECK(false, op, ": x must be float32, float64, float16 or bfloat16, got ",
                      dtype_name(t));
      return f(float{});
  }
}

template <typename T>
const T* const_data(const Tensor& t) {
  return static_cast<const T*>(t.const_data_ptr());
}
template <typename T>
T* mutable_data(const Tensor& t) {
  return static_cast<T*>(t.mutable_data_ptr());
}

}  // namespace lets

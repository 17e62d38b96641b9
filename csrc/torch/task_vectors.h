// Checks of the vectors and activations of the per-task epilogues.
#pragma once
#include <cmath>

#include "checks.h"

namespace lets {

// [T, N, F], contiguous.
inline Tensor check_activations(const char* op, const char* name, const Tensor& t) {
  STD_TORCH_CHECK(t.dim() == 3 && t.size(2) > 0, op, ": ", name,
                  " must have shape [T, N, features], got ", shape_string(t));
  check_elements(op, name, t);
  return torch::stable::contiguous(t);
}

// Of the shape of `like` [T, N, F], contiguous.
inline Tensor check_same(const char* op, const char* name, const Tensor& t, const char* other,
                         const Tensor& like) {
  STD_TORCH_CHECK(t.dim() == 3 && t.size(0) == like.size(0) && t.size(1) == like.size(1) &&
                      t.size(2) == like.size(2),
                  op, ": ", name, " must have the shape of ", other, " ", shape_string(like),
                  ", got ", shape_string(t));
  check_dtype(op, name, t, other, like);
  return torch::stable::contiguous(t);
}

// [1|T, N, F] beside `like` [T, N, F], contiguous.
inline Tensor check_shared(const char* op, const char* name, const Tensor& t, const char* other,
                           const Tensor& like) {
  STD_TORCH_CHECK(t.dim() == 3 && (t.size(0) == 1 || t.size(0) == like.size(0)) &&
                      t.size(1) == like.size(1) && t.size(2) == like.size(2),
                  op, ": ", name, " must have shape [1 or ", like.size(0), ", ", like.size(1), ", ",
                  like.size(2), "], got ", shape_string(t));
  check_dtype(op, name, t, other, like);
  return torch::stable::contiguous(t);
}

// [1|T, F], contiguous.
inline Tensor check_task_vector(const char* op, const char* name, const Tensor& t,
                                const char* other, const Tensor& like, int64_t num_tasks,
                                int64_t features) {
  STD_TORCH_CHECK(
      t.dim() == 2 && (t.size(0) == 1 || t.size(0) == num_tasks) && t.size(1) == features, op, ": ",
      name, " must have shape [1 or ", num_tasks, ", ", features, "], got ", shape_string(t));
  check_dtype(op, name, t, other, like);
  return torch::stable::contiguous(t);
}

inline void check_eps(const char* op, double eps) {
  STD_TORCH_CHECK(eps >= 0 && std::isfinite(eps), op,
                  ": eps must be a finite number and at least 0, got ", eps);
}

// Elements from one task to the next: 0 where all tasks share.
inline int64_t task_stride(const Tensor& t) {
  int64_t size = t.size(0) == 1 ? 0 : 1;
  for (int64_t i = 1; i < t.dim(); ++i) size *= t.size(i);
  return size;
}

// Rows per chunk that make a chunk worth a hand-over (about 16 thousand elements).
inline int64_t rows_per_chunk(int64_t features) {
  const int64_t rows = 16384 / features;
  return rows > 0 ? rows : 1;
}

}  // namespace lets

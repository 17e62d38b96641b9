// cls_tail of independent layers on a GPU: one persistent launch that reads each weight once, or a
// chain of four per layer where the grid cannot be on the device as a whole or rows are many.
// Returns 0 or a cudaError_t; no allocation, no waiting. T: float, Half, BFloat16.
#pragma once
#include "kernels/cls_tail.h"

struct CUstream_st;  // cudaStream_t, so that no CUDA header is needed here

namespace lets {

template <typename T>
struct ClsTailCudaParams {
  const T* ctx;             // [T, M, H]
  const T* residual;        // [1|T, M, H]
  int64_t residual_stride;  // 0: shared by all tasks
  TailLinear<T> attn, up, down;
  TaskVector<T> attn_norm_weight, attn_norm_bias, norm_weight, norm_bias;
  T* out;  // [T, M, H]
  // Workspace.
  float* attn_sums;  // [T*M, H]
  float* h;          // [T*M, H]
  T* inner;          // [T*M, F]
  float* down_sums;  // [T*M, H]
  int64_t num_tasks, num_rows, hidden, inner_features;
  double eps;
};

enum class ClsTailLaunch { kAutomatic, kPersistent, kChain };

constexpr int kMaxTailLayers = 24;  // of one launch; more layers take further launches

// The layers have one hidden and one inner size; tasks and rows may differ.
template <typename T>
int cls_tail_cuda(const ClsTailCudaParams<T>* layers, int64_t num_layers, CUstream_st* stream,
                  ClsTailLaunch how = ClsTailLaunch::kAutomatic);

}  // namespace lets

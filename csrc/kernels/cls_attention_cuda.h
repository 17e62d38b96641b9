// cls_attention on a GPU: one launch for all sequences, heads and tasks, on `stream`. Returns 0 or
// a cudaError_t; no allocation, no waiting. T: float, Half, BFloat16.
#pragma once
#include "kernels/cls_attention.h"

struct CUstream_st;  // cudaStream_t, so that no CUDA header is needed here

namespace lets {

// As on the CPU, but `rows` is not used, and probs, z and px are written only where they are given.
template <typename T>
int cls_attention_cuda(const ClsAttentionParams<T>& p, CUstream_st* stream);

}  // namespace lets

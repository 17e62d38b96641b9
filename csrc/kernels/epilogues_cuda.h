// add_layer_norm and bias_gelu on a GPU, and their gradients. They launch on `stream` and return 0
// or a cudaError_t; no allocation, no waiting. T: float, Half, BFloat16.
#pragma once
#include "kernels/add_layer_norm_bwd.h"
#include "kernels/bias_gelu_bwd.h"

struct CUstream_st;  // cudaStream_t, so that no CUDA header is needed here

namespace lets {

template <typename T>
int add_layer_norm_cuda(const AddLayerNormParams<T>& p, int64_t num_tasks, CUstream_st* stream);

template <typename T>
int bias_gelu_cuda(const BiasGeluParams<T>& p, int64_t num_tasks, CUstream_st* stream);

template <typename T>
int add_layer_norm_bwd_cuda(const AddLayerNormBwdParams<T>& p, CUstream_st* stream);

template <typename T>
int bias_gelu_bwd_cuda(const BiasGeluBwdParams<T>& p, CUstream_st* stream);

}  // namespace lets

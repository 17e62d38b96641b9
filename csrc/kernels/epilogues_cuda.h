// add_layer_norm and bias_gelu on a GPU. They launch on `stream` and return 0 or a cudaError_t; no
// allocation, no waiting. T: float, Half, BFloat16.
#pragma once
#include "kernels/add_layer_norm.h"
#include "kernels/bias_gelu.h"

struct CUstream_st;  // cudaStream_t, so that no CUDA header is needed here

namespace lets {

template <typename T>
int add_layer_norm_cuda(const AddLayerNormParams<T>& p, int64_t num_tasks, CUstream_st* stream);

template <typename T>
int bias_gelu_cuda(const BiasGeluParams<T>& p, int64_t num_tasks, CUstream_st* stream);

}  // namespace lets

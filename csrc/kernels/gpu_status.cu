#include <cuda_runtime_api.h>

namespace lets {

const char* gpu_status_string(int status);
const char* gpu_status_string(int status) {
  return cudaGetErrorString(static_cast<cudaError_t>(status));
}

}  // namespace lets

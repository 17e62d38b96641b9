// What the CUDA side of every op needs: checks of the device, the caller's stream, launch errors.
#pragma once
#include <torch/csrc/stable/accelerator.h>

#include <optional>
#include <string>

#include "checks.h"

struct CUstream_st;

// Only libtorch_cuda defines it. Weak, so that one binary also loads with a torch without CUDA.
extern "C" __attribute__((weak)) AOTITorchError
aoti_torch_get_current_cuda_stream(int32_t device_index, void** stream);

namespace lets {

// kernels/gpu_status.cu
const char* gpu_status_string(int status);

inline std::string device_string(const Tensor& t) {
  return t.is_cuda() ? "cuda:" + std::to_string(t.get_device_index()) : std::string("another kind");
}

inline void check_device(const char* op, const char* name, const Tensor& like, const Tensor& t) {
  STD_TORCH_CHECK(like.is_cuda() && t.device() == like.device(), op,
                  ": all tensors must be on one device, got ", name, " on ", device_string(like),
                  " and another one on ", device_string(t), "; move them with .to()");
}
inline void check_device(const char* op, const char* name, const Tensor& like,
                         const std::optional<Tensor>& t) {
  if (t) check_device(op, name, like, *t);
}

// Makes the device of a tensor current and gives the stream that torch uses there.
class CudaScope {
 public:
  CudaScope(const char* op, const Tensor& t) : op_(op), guard_(t.get_device_index()) {
    STD_TORCH_CHECK(aoti_torch_get_current_cuda_stream, op,
                    ": the installed torch must have CUDA, got a CPU build");
    void* stream = nullptr;
    TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(t.get_device_index(), &stream));
    stream_ = static_cast<CUstream_st*>(stream);
  }
  CUstream_st* stream() const { return stream_; }

  void check(int status) const {
    STD_TORCH_CHECK(status == 0, op_, ": CUDA error ", status, " (", gpu_status_string(status),
                    ")");
  }

 private:
  const char* op_;
  torch::stable::accelerator::DeviceGuard guard_;
  CUstream_st* stream_ = nullptr;
};

// The device that an op's function is compiled for, see on_cpu.h.
struct OnCuda {
  // Of all tensors: that of `like`, whose name in messages is `name`.
  template <typename... Tensors>
  static void check_devices(const char* op, const char* name, const Tensor& like,
                            const Tensors&... others) {
    check_device(op, name, like, like);
    (check_device(op, name, like, others), ...);
  }

  // Calls f with the element type of t as a value of that type.
  template <typename F>
  static void with_dtype(const char* op, const Tensor& t, const F& f) {
    switch (t.scalar_type()) {
      case ScalarType::Float:
        return f(float{});
      case ScalarType::Half:
        return f(Half{});
      case ScalarType::BFloat16:
        return f(BFloat16{});
      default:
        STD_TORCH_CHECK(false, op, ": x must be float32, float16 or bfloat16 on CUDA, got ",
                        dtype_name(t));
    }
  }
};

}  // namespace lets

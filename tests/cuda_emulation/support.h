// What the emulated tests share: buffers of any dtype, random deltas, comparison with float64.
#pragma once
#include <cstdint>
#include <string>
#include <type_traits>
#include <vector>

#include "emu/gpu_emulated.h"
#include "kernels/dtypes.h"

namespace lets::test {

double normal();
bool coin(double probability);
void reset_random();

double widen(float x);
double widen(Half x);
double widen(BFloat16 x);
void narrow(double x, float* out);
void narrow(double x, Half* out);
void narrow(double x, BFloat16* out);

// Half the distance between 1 and the next number, what rounding costs at most.
template <typename T>
constexpr double kRounding = std::is_same_v<T, float>  ? 6e-8
                             : std::is_same_v<T, Half> ? 4.9e-4
                                                       : 3.92e-3;
template <typename T>
constexpr const char* kName = std::is_same_v<T, float>  ? "fp32"
                              : std::is_same_v<T, Half> ? "fp16"
                                                        : "bf16";

// A heap block of the exact size, so that ASan sees one element past the end. Starts as NaN.
// `offset` elements in front make the address unaligned.
template <typename T>
class Buffer {
 public:
  explicit Buffer(int64_t size, int64_t offset = 0) : size_(size) {
    const size_t bytes = static_cast<size_t>(size + offset) * sizeof(T);
    if (posix_memalign(&memory_, 256, bytes ? bytes : 1)) abort();
    std::memset(memory_, 0xff, bytes);
    data_ = static_cast<T*>(memory_) + offset;
  }
  ~Buffer() { free(memory_); }
  Buffer(const Buffer&) = delete;

  T* data() { return data_; }
  const T* data() const { return data_; }
  int64_t size() const { return size_; }
  double get(int64_t i) const { return widen(data_[i]); }
  Buffer& fill(double scale = 1, double offset = 0) {
    for (int64_t i = 0; i < size_; ++i) narrow(offset + scale * normal(), data_ + i);
    return *this;
  }

 private:
  void* memory_ = nullptr;
  T* data_;
  int64_t size_;
};

// CSR of [rows, columns]. Row 0 and column 0 are empty and row 1 is full where that is possible.
struct Csr {
  std::vector<int32_t> crow, col;
  int64_t nnz() const { return static_cast<int64_t>(col.size()); }
};
Csr random_csr(int64_t rows, int64_t columns, double density);
// Per task the transpose of [tasks * rows, columns]; permutation points back.
struct Transposed {
  std::vector<int32_t> ccol, row, permutation;
};
Transposed transpose(const Csr& csr, int64_t tasks, int64_t rows, int64_t columns);

// One line per check: every element must be the exact one up to the rounding of the output's dtype
// and fp32 sums of terms as large as `magnitude`.
void report(const std::string& name, double worst, double allowed);
int failures();

template <typename T>
void check(const std::string& name, const Buffer<T>& actual, const std::vector<double>& exact,
           double sum_error = 1e-6) {
  double magnitude = 0, worst = 0;
  for (double e : exact) magnitude = std::max(magnitude, std::abs(e));
  for (int64_t i = 0; i < actual.size(); ++i) {
    const double error = std::abs(actual.get(i) - exact[i]);
    const double allowed = kRounding<T> * std::abs(exact[i]) + sum_error * (magnitude + 1);
    worst = error <= allowed ? std::max(worst, error / allowed) : std::max(worst, 2 + error);
    if (!(error == error)) worst = INFINITY;
  }
  report(name + " " + kName<T>, worst, 1);
}

template <typename F>
void for_each_dtype(const F& f) {
  f(float{});
  f(Half{});
  f(BFloat16{});
}

}  // namespace lets::test

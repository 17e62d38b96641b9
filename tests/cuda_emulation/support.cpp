#include "support.h"

#include <cstdio>
#include <random>

namespace lets::test {
namespace {

std::mt19937_64 generator(7);
int num_failures = 0;

}  // namespace

void reset_random() { generator.seed(7); }
double normal() {
  std::normal_distribution<double> distribution;
  return distribution(generator);
}
bool coin(double probability) { return std::bernoulli_distribution(probability)(generator); }

double widen(float x) { return x; }
double widen(Half x) { return __half2float(__ushort_as_half(x.bits)); }
double widen(BFloat16 x) { return __bfloat162float(__ushort_as_bfloat16(x.bits)); }
void narrow(double x, float* out) { *out = static_cast<float>(x); }
void narrow(double x, Half* out) { out->bits = __half_as_ushort(__double2half(x)); }
void narrow(double x, BFloat16* out) { out->bits = __bfloat16_as_ushort(__double2bfloat16(x)); }

Csr random_csr(int64_t rows, int64_t columns, double density) {
  Csr csr;
  csr.crow.push_back(0);
  const bool special = density > 0 && density < 1 && rows > 2 && columns > 1;
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < columns; ++c) {
      const bool kept = special && r == 1               ? true
                        : special && (r == 0 || c == 0) ? false
                                                        : coin(density);
      if (kept) csr.col.push_back(static_cast<int32_t>(c));
    }
    csr.crow.push_back(static_cast<int32_t>(csr.col.size()));
  }
  return csr;
}

Transposed transpose(const Csr& csr, int64_t tasks, int64_t rows, int64_t columns) {
  Transposed out;
  out.ccol.push_back(0);
  for (int64_t t = 0; t < tasks; ++t) {
    for (int64_t c = 0; c < columns; ++c) {
      for (int64_t r = 0; r < rows; ++r) {
        for (int32_t e = csr.crow[t * rows + r]; e < csr.crow[t * rows + r + 1]; ++e) {
          if (csr.col[e] != c) continue;
          out.row.push_back(static_cast<int32_t>(r));
          out.permutation.push_back(e);
        }
      }
      out.ccol.push_back(static_cast<int32_t>(out.row.size()));
    }
  }
  return out;
}

void report(const std::string& name, double worst, double allowed) {
  const bool passed = worst <= allowed;
  num_failures += !passed;
  printf("%s %s (%.2g of what is allowed)\n", passed ? "pass" : "FAIL", name.c_str(),
         worst / allowed);
  fflush(stdout);
}

int failures() { return num_failures; }

}  // namespace lets::test

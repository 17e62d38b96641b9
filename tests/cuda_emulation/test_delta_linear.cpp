// delta_linear and both gradients against float64.
#include "kernels/delta_linear_cuda.h"
#include "support.h"

namespace lets::test {
namespace {

struct Shape {
  int64_t tasks, tokens, in, out;
  double density;
  bool one_x, one_base;
  int64_t offset = 0;   // > 0: unaligned addresses
  int64_t padding = 0;  // of every row of x
};

std::string name(const char* what, const Shape& s) {
  char text[160];
  snprintf(text, sizeof(text), "%s T=%d N=%d I=%d O=%d density=%g%s%s%s", what, int(s.tasks),
           int(s.tokens), int(s.in), int(s.out), s.density, s.one_x ? " shared x" : "",
           s.one_base ? " shared base" : "", s.offset || s.padding ? " unaligned" : "");
  return text;
}

template <typename T>
struct Problem {
  Shape s;
  Csr csr;
  Buffer<T> values, x, base, bias, out;
  int64_t x_row = s.in + s.padding;

  explicit Problem(const Shape& shape)
      : s(shape),
        csr(random_csr(s.tasks * s.out, s.in, s.density)),
        values(csr.nnz()),
        x((s.one_x ? 1 : s.tasks) * s.tokens * (s.in + s.padding), s.offset),
        base((s.one_base ? 1 : s.tasks) * s.tokens * s.out, s.offset),
        bias(s.tasks * s.out),
        out(s.tasks * s.tokens * s.out, s.offset) {
    values.fill(0.3);
    x.fill();
    base.fill();
    bias.fill(0.3);
  }
  double x_at(int64_t t, int64_t n, int64_t i) const {
    return x.get(((s.one_x ? 0 : t) * s.tokens + n) * x_row + i);
  }
  RowsView<const T> x_view() const { return {x.data(), s.one_x ? 0 : s.tokens * x_row, x_row}; }
};

template <typename T>
void test_forward(const Shape& s) {
  Problem<T> p(s);
  const RowsView<const T> base{p.base.data(), s.one_base ? 0 : s.tokens * s.out, s.out};
  const int status = delta_linear_cuda<T>(
      {base, p.x_view(), p.csr.crow.data(), p.csr.col.data(), nullptr, p.values.data(),
       p.bias.data(), p.out.data(), s.tasks, s.tokens, s.in, s.out},
      nullptr);
  if (status) return report(name("delta_linear: status", s), INFINITY, 1);
  std::vector<double> exact(p.out.size());
  for (int64_t t = 0; t < s.tasks; ++t) {
    for (int64_t n = 0; n < s.tokens; ++n) {
      for (int64_t o = 0; o < s.out; ++o) {
        double sum = p.base.get(((s.one_base ? 0 : t) * s.tokens + n) * s.out + o) +
                     p.bias.get(t * s.out + o);
        for (int32_t e = p.csr.crow[t * s.out + o]; e < p.csr.crow[t * s.out + o + 1]; ++e)
          sum += p.x_at(t, n, p.csr.col[e]) * p.values.get(e);
        exact[(t * s.tokens + n) * s.out + o] = sum;
      }
    }
  }
  check(name("delta_linear", s), p.out, exact);
}

template <typename T>
void test_backward(const Shape& s) {
  Problem<T> p(s);
  const Transposed transposed = transpose(p.csr, s.tasks, s.out, s.in);
  Buffer<T> grad(s.tasks * s.tokens * s.out, s.offset), grad_x(s.tasks * s.tokens * s.in),
      grad_values(p.csr.nnz());
  grad.fill();
  const RowsView<const T> grad_view{grad.data(), s.tokens * s.out, s.out};
  int status = delta_linear_cuda<T>({{nullptr, 0, 0},
                                     grad_view,
                                     transposed.ccol.data(),
                                     transposed.row.data(),
                                     transposed.permutation.data(),
                                     p.values.data(),
                                     nullptr,
                                     grad_x.data(),
                                     s.tasks,
                                     s.tokens,
                                     s.out,
                                     s.in},
                                    nullptr);
  const int64_t splits = delta_linear_values_cuda_splits(s.tokens);
  Buffer<float> partial(splits * p.csr.nnz());
  if (!status)
    status = delta_linear_bwd_values_cuda<T>(
        {grad_view, p.x_view(), p.csr.crow.data(), p.csr.col.data(), partial.data(),
         grad_values.data(), s.tasks, s.tokens, s.in, s.out, p.csr.nnz()},
        nullptr);
  if (status) return report(name("delta_linear_bwd: status", s), INFINITY, 1);
  std::vector<double> exact_x(grad_x.size()), exact_values(p.csr.nnz());
  for (int64_t t = 0; t < s.tasks; ++t) {
    for (int64_t o = 0; o < s.out; ++o) {
      for (int32_t e = p.csr.crow[t * s.out + o]; e < p.csr.crow[t * s.out + o + 1]; ++e) {
        for (int64_t n = 0; n < s.tokens; ++n) {
          const double g = grad.get((t * s.tokens + n) * s.out + o);
          exact_x[(t * s.tokens + n) * s.in + p.csr.col[e]] += g * p.values.get(e);
          exact_values[e] += g * p.x_at(t, n, p.csr.col[e]);
        }
      }
    }
  }
  check(name("delta_linear_bwd_x", s), grad_x, exact_x);
  check(name("delta_linear_bwd_values", s), grad_values, exact_values);
}

}  // namespace

void test_delta_linear() {
  for_each_dtype([](auto element) {
    using T = decltype(element);
    test_forward<T>({1, 13, 64, 192, 0.05, true, true});
    test_forward<T>({3, 9, 40, 72, 0.1, true, true});
    test_forward<T>({3, 5, 40, 70, 0.1, false, true});
    test_forward<T>({2, 4, 24, 40, 0.1, true, false, 0, 8});
    test_forward<T>({2, 1, 7, 21, 0.2, false, false, 1, 3});
    test_forward<T>({1, 17, 33, 1030, 1.0, true, true});
    test_forward<T>({2, 3, 16, 24, 0.0, true, true});
    test_forward<T>({2, 90, 40, 72, 0.1, true, true});  // enough rows for blocks of sixteen
    test_forward<T>({2, 51, 33, 70, 0.2, false, false, 1, 3});
    test_backward<T>({1, 13, 64, 72, 0.05, true, true});
    test_backward<T>({2, 9, 15, 21, 0.3, false, true, 1, 2});
    test_backward<T>({2, 1, 8, 530, 1.0, true, true});
    test_backward<T>({1, 300, 24, 40, 0.1, true, true});
    test_forward<T>({1, 3, 700, 72, 0.9, true, true});  // more entries than a warp fetches at once
    // A GPU with little shared memory, as seen by wide inputs: fewer rows at a time.
    const size_t usual = emu::device_shared_bytes;
    emu::device_shared_bytes = (sizeof(T) == 4 ? 16384 : 8192) + 1024;
    test_forward<T>({2, 5, 136, 40, 0.1, true, true});
    test_backward<T>({1, 5, 1200, 24, 0.02, true, true});
    test_backward<T>({1, 3, 24, 136, 0.1, true, true});
    emu::device_shared_bytes = usual;
  });
  Buffer<float> empty(0);
  const int32_t crow[1] = {0};
  const int status = delta_linear_cuda<float>({{empty.data(), 0, 4},
                                               {empty.data(), 0, 4},
                                               crow,
                                               nullptr,
                                               nullptr,
                                               nullptr,
                                               nullptr,
                                               empty.data(),
                                               1,
                                               0,
                                               4,
                                               4},
                                              nullptr);
  report("delta_linear without rows", status, 0.5);
}

}  // namespace lets::test

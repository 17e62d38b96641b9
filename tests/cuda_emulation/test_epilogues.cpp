// add_layer_norm and bias_gelu against float64.
#include "kernels/epilogues_cuda.h"
#include "support.h"

namespace lets::test {
namespace {

std::string name(const char* what, int64_t tasks, int64_t tokens, int64_t features, bool shared,
                 int64_t offset) {
  char text[120];
  snprintf(text, sizeof(text), "%s T=%d N=%d features=%d%s%s", what, int(tasks), int(tokens),
           int(features), shared ? " shared" : "", offset ? " unaligned" : "");
  return text;
}

template <typename T>
void test_add_layer_norm(int64_t tasks, int64_t tokens, int64_t hidden, bool shared, bool with_bias,
                         int64_t offset = 0) {
  const int64_t vectors = shared ? 1 : tasks, stride = shared ? 0 : hidden;
  Buffer<T> x(tasks * tokens * hidden, offset), residual(vectors * tokens * hidden, offset),
      bias(vectors * hidden), weight(vectors * hidden), norm_bias(vectors * hidden),
      out(tasks * tokens * hidden, offset);
  Buffer<float> mean(tasks * tokens), rstd(tasks * tokens);
  x.fill();
  residual.fill(1, 0.5);
  bias.fill();
  weight.fill(0.1, 1);
  norm_bias.fill();
  const double eps = 1e-6;
  const int status =
      add_layer_norm_cuda<T>({x.data(), residual.data(), with_bias ? bias.data() : nullptr,
                              weight.data(), norm_bias.data(), out.data(), mean.data(), rstd.data(),
                              tokens, hidden, stride * tokens, stride, stride, stride, eps},
                             tasks, nullptr);
  const std::string title = name("add_layer_norm", tasks, tokens, hidden, shared, offset);
  if (status) return report(title, INFINITY, 1);
  std::vector<double> exact(out.size()), exact_mean(mean.size()), exact_rstd(rstd.size());
  for (int64_t r = 0; r < tasks * tokens; ++r) {
    const int64_t t = shared ? 0 : r / tokens, n = r % tokens;
    std::vector<double> row(hidden);
    double sum = 0, squares = 0;
    for (int64_t i = 0; i < hidden; ++i) {
      row[i] = x.get(r * hidden + i) + residual.get((t * tokens + n) * hidden + i) +
               (with_bias ? bias.get(t * hidden + i) : 0.0);
      sum += row[i];
    }
    for (double v : row) squares += (v - sum / hidden) * (v - sum / hidden);
    exact_mean[r] = sum / hidden;
    exact_rstd[r] = 1 / std::sqrt(squares / hidden + eps);
    for (int64_t i = 0; i < hidden; ++i)
      exact[r * hidden + i] =
          (row[i] - exact_mean[r]) * exact_rstd[r] * weight.get(t * hidden + i) +
          norm_bias.get(t * hidden + i);
  }
  check(title, out, exact);
  check(title + ": mean for", mean, exact_mean);
  check(title + ": rstd for", rstd, exact_rstd);
}

template <typename T>
void test_bias_gelu(int64_t tasks, int64_t tokens, int64_t features, bool shared,
                    int64_t offset = 0) {
  Buffer<T> x(tasks * tokens * features, offset), bias((shared ? 1 : tasks) * features),
      out(tasks * tokens * features, offset);
  x.fill(2);
  bias.fill();
  const int status = bias_gelu_cuda<T>(
      {x.data(), bias.data(), out.data(), tokens, features, shared ? 0 : features}, tasks, nullptr);
  const std::string title = name("bias_gelu", tasks, tokens, features, shared, offset);
  if (status) return report(title, INFINITY, 1);
  std::vector<double> exact(out.size());
  for (int64_t i = 0; i < out.size(); ++i) {
    const int64_t t = shared ? 0 : i / (tokens * features);
    const double s = x.get(i) + bias.get(t * features + i % features);
    exact[i] = 0.5 * s * (1 + std::erf(s / std::sqrt(2.0)));
  }
  check(title, out, exact);
}

}  // namespace

void test_epilogues() {
  for_each_dtype([](auto element) {
    using T = decltype(element);
    test_add_layer_norm<T>(2, 3, 72, false, true);
    test_add_layer_norm<T>(3, 2, 1048, true, true);
    test_add_layer_norm<T>(1, 5, 33, false, false);
    test_add_layer_norm<T>(2, 2, 64, true, true, 1);
    test_add_layer_norm<T>(1, 1, 1, true, false);
    test_bias_gelu<T>(2, 3, 72, false);
    test_bias_gelu<T>(3, 2, 1048, true);
    test_bias_gelu<T>(1, 5, 33, false);
    test_bias_gelu<T>(2, 2, 64, true, 1);
  });
}

}  // namespace lets::test

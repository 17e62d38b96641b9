// add_layer_norm and bias_gelu and their gradients against float64.
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

// The partial sums over splits of `sums`, from `first` on, added up over the splits.
std::vector<double> added(const Buffer<float>& sums, int64_t first, int64_t splits, int64_t size) {
  std::vector<double> total(size);
  for (int64_t i = 0; i < splits * size; ++i) total[i % size] += sums.get(first + i);
  return total;
}

// Sums over tokens are as exact as their terms.
void check_sums(const std::string& title, const std::vector<double>& actual,
                const std::vector<double>& exact, double magnitude) {
  double worst = 0;
  for (size_t i = 0; i < exact.size(); ++i) {
    const double error = std::abs(actual[i] - exact[i]);
    worst = error == error ? std::max(worst, error / (2e-5 * (magnitude + 1))) : INFINITY;
  }
  report(title, worst, 1);
}

template <typename T>
void test_add_layer_norm_bwd(int64_t tasks, int64_t tokens, int64_t hidden, bool shared,
                             bool with_bias, int64_t offset = 0) {
  const int64_t vectors = shared ? 1 : tasks, stride = shared ? 0 : hidden;
  const int64_t splits = num_splits(tokens), rows = tasks * tokens, size = tasks * hidden;
  Buffer<T> grad(rows * hidden, offset), x(rows * hidden, offset),
      residual(vectors * tokens * hidden, offset), bias(vectors * hidden), weight(vectors * hidden),
      grad_x(rows * hidden, offset);
  Buffer<float> mean(rows), rstd(rows), sums(3 * splits * size);
  grad.fill();
  x.fill();
  residual.fill(1, 0.5);
  bias.fill();
  weight.fill(0.1, 1);
  std::vector<double> total(rows * hidden), exact(rows * hidden), grad_weight(size),
      grad_norm_bias(size), grad_bias(size);
  for (int64_t r = 0; r < rows; ++r) {
    const int64_t task = r / tokens, t = shared ? 0 : task, n = r % tokens;
    double sum = 0, squares = 0;
    for (int64_t i = 0; i < hidden; ++i) {
      total[r * hidden + i] = x.get(r * hidden + i) + residual.get((t * tokens + n) * hidden + i) +
                              (with_bias ? bias.get(t * hidden + i) : 0.0);
      sum += total[r * hidden + i];
    }
    mean.data()[r] = static_cast<float>(sum / hidden);
    for (int64_t i = 0; i < hidden; ++i)
      squares += (total[r * hidden + i] - sum / hidden) * (total[r * hidden + i] - sum / hidden);
    rstd.data()[r] = static_cast<float>(1 / std::sqrt(squares / hidden + 1e-6));
    const double scale = rstd.get(r);
    const auto normed = [&](int64_t i) { return (total[r * hidden + i] - mean.get(r)) * scale; };
    const auto g = [&](int64_t i) { return grad.get(r * hidden + i); };
    double mean_sum = 0, mean_product = 0;
    for (int64_t i = 0; i < hidden; ++i) {
      mean_sum += g(i) * weight.get(t * hidden + i) / hidden;
      mean_product += g(i) * weight.get(t * hidden + i) * normed(i) / hidden;
    }
    for (int64_t i = 0; i < hidden; ++i) {
      const double scaled = g(i) * weight.get(t * hidden + i);
      exact[r * hidden + i] = (scaled - mean_sum - normed(i) * mean_product) * scale;
      grad_weight[task * hidden + i] += g(i) * normed(i);
      grad_norm_bias[task * hidden + i] += g(i);
      grad_bias[task * hidden + i] += exact[r * hidden + i];
    }
  }
  const int status = add_layer_norm_bwd_cuda<T>(
      {grad.data(), x.data(), residual.data(), with_bias ? bias.data() : nullptr, weight.data(),
       mean.data(), rstd.data(), grad_x.data(), sums.data(), tasks, tokens, hidden, stride * tokens,
       stride, stride},
      nullptr);
  const std::string title = name("add_layer_norm_bwd", tasks, tokens, hidden, shared, offset);
  if (status) return report(title, INFINITY, 1);
  check(title, grad_x, exact);
  const auto vector = [&](int64_t i) { return added(sums, i * splits * size, splits, size); };
  check_sums(title + ": weight", vector(0), grad_weight, tokens);
  check_sums(title + ": norm_bias", vector(1), grad_norm_bias, tokens);
  check_sums(title + ": bias", vector(2), grad_bias, tokens);
}

template <typename T>
void test_bias_gelu_bwd(int64_t tasks, int64_t tokens, int64_t features, bool shared,
                        int64_t offset = 0) {
  const int64_t size = tasks * features;
  Buffer<T> grad(tokens * size, offset), x(tokens * size, offset),
      bias((shared ? 1 : tasks) * features), grad_x(tokens * size, offset);
  Buffer<float> sums(num_splits(tokens) * size);
  grad.fill();
  x.fill(2);
  bias.fill();
  const int status =
      bias_gelu_bwd_cuda<T>({grad.data(), x.data(), bias.data(), grad_x.data(), sums.data(), tasks,
                             tokens, features, shared ? 0 : features},
                            nullptr);
  const std::string title = name("bias_gelu_bwd", tasks, tokens, features, shared, offset);
  if (status) return report(title, INFINITY, 1);
  std::vector<double> exact(x.size()), grad_bias(size);
  for (int64_t i = 0; i < x.size(); ++i) {
    const int64_t task = i / (tokens * features), column = i % features;
    const double s = x.get(i) + bias.get((shared ? 0 : task) * features + column);
    const double bell = std::exp(-0.5 * s * s) / std::sqrt(2 * M_PI);
    exact[i] = grad.get(i) * (0.5 * (1 + std::erf(s / std::sqrt(2.0))) + s * bell);
    grad_bias[task * features + column] += exact[i];
  }
  check(title, grad_x, exact);
  check_sums(title + ": bias", added(sums, 0, num_splits(tokens), size), grad_bias, tokens);
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
    test_add_layer_norm_bwd<T>(2, 35, 72, false, true);
    test_add_layer_norm_bwd<T>(3, 2, 1048, true, true);
    test_add_layer_norm_bwd<T>(1, 5, 33, false, false);
    test_add_layer_norm_bwd<T>(2, 2, 64, true, true, 1);
    test_bias_gelu_bwd<T>(2, 35, 72, false);
    test_bias_gelu_bwd<T>(3, 2, 1048, true);
    test_bias_gelu_bwd<T>(1, 5, 33, false);
    test_bias_gelu_bwd<T>(2, 2, 64, true, 1);
  });
}

}  // namespace lets::test

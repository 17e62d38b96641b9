// cls_tail against float64, persistent and as a chain of launches.
#include <memory>

#include "kernels/cls_tail_cuda.h"
#include "support.h"

namespace lets::test {
namespace {

struct Shape {
  int64_t tasks, rows, hidden, inner;
  double density;  // negative: no deltas
  bool shared;     // residual and vectors
  int64_t offset = 0;
};

using Matrix = std::vector<double>;  // [tasks * rows, features]

template <typename T>
struct Linear {
  int64_t tasks, out, in;
  bool sparse, shared;
  Csr csr;
  Buffer<T> weight, bias, values;

  Linear(const Shape& s, int64_t out, int64_t in)
      : tasks(s.tasks),
        out(out),
        in(in),
        sparse(s.density >= 0),
        shared(s.shared),
        csr(random_csr(s.tasks * out, in, std::max(s.density, 0.0))),
        weight(out * in, s.offset),
        bias((s.shared ? 1 : s.tasks) * out),
        values(csr.nnz()) {
    weight.fill(1 / std::sqrt(double(in)));
    bias.fill(0.2);
    values.fill(0.1);
  }
  TailLinear<T> params() const {
    return {weight.data(),
            {bias.data(), shared ? 0 : out},
            sparse ? csr.crow.data() : nullptr,
            csr.col.data(),
            values.data(),
            out,
            in};
  }
  Matrix apply(const Matrix& x, int64_t rows) const {
    Matrix result(tasks * rows * out);
    for (int64_t r = 0; r < tasks * rows; ++r) {
      for (int64_t o = 0; o < out; ++o) {
        const int64_t t = r / rows;
        double sum = bias.get((shared ? 0 : t) * out + o);
        for (int64_t i = 0; i < in; ++i) sum += weight.get(o * in + i) * x[r * in + i];
        for (int32_t e = csr.crow[t * out + o]; sparse && e < csr.crow[t * out + o + 1]; ++e)
          sum += values.get(e) * x[r * in + csr.col[e]];
        result[r * out + o] = sum;
      }
    }
    return result;
  }
};

template <typename T>
struct Norm {
  Buffer<T> weight, bias;
  Norm(const Shape& s)
      : weight((s.shared ? 1 : s.tasks) * s.hidden), bias((s.shared ? 1 : s.tasks) * s.hidden) {
    weight.fill(0.1, 1);
    bias.fill(0.3);
  }
  void apply(const Shape& s, double eps, Matrix& x) const {
    for (int64_t r = 0; r < s.tasks * s.rows; ++r) {
      const int64_t t = s.shared ? 0 : r / s.rows;
      double* row = x.data() + r * s.hidden;
      double mean = 0, squares = 0;
      for (int64_t i = 0; i < s.hidden; ++i) mean += row[i] / s.hidden;
      for (int64_t i = 0; i < s.hidden; ++i) squares += (row[i] - mean) * (row[i] - mean);
      for (int64_t i = 0; i < s.hidden; ++i)
        row[i] =
            (row[i] - mean) / std::sqrt(squares / s.hidden + eps) * weight.get(t * s.hidden + i) +
            bias.get(t * s.hidden + i);
    }
  }
};

// What the kernel hands from one product to the next is rounded to T.
template <typename T>
Matrix rounded(const Matrix& x) {
  Matrix result(x.size());
  for (size_t i = 0; i < x.size(); ++i) {
    T value;
    narrow(x[i], &value);
    result[i] = widen(value);
  }
  return result;
}

// A layer with everything it reads, its workspace and its result.
template <typename T>
struct Layer {
  static constexpr double kEps = 1e-6;
  Shape s;
  int64_t n;
  Buffer<T> ctx, residual, out, inner;
  Buffer<float> attn_sums, h, down_sums;
  Linear<T> attn, up, down;
  Norm<T> first, second;

  explicit Layer(const Shape& s)
      : s(s),
        n(s.tasks * s.rows),
        ctx(n * s.hidden, s.offset),
        residual((s.shared ? 1 : s.tasks) * s.rows * s.hidden),
        out(n * s.hidden, s.offset),
        inner(n * s.inner),
        attn_sums(n * s.hidden),
        h(n * s.hidden),
        down_sums(n * s.hidden),
        attn(s, s.hidden, s.hidden),
        up(s, s.inner, s.hidden),
        down(s, s.hidden, s.inner),
        first(s),
        second(s) {
    ctx.fill();
    residual.fill();
  }

  ClsTailCudaParams<T> params() {
    const int64_t stride = s.shared ? 0 : s.hidden;
    return {ctx.data(),
            residual.data(),
            stride * s.rows,
            attn.params(),
            up.params(),
            down.params(),
            {first.weight.data(), stride},
            {first.bias.data(), stride},
            {second.weight.data(), stride},
            {second.bias.data(), stride},
            out.data(),
            attn_sums.data(),
            h.data(),
            inner.data(),
            down_sums.data(),
            s.tasks,
            s.rows,
            s.hidden,
            s.inner,
            kEps};
  }

  std::string title(const std::string& how) const {
    char text[120];
    snprintf(text, sizeof(text), "cls_tail T=%d M=%d H=%d F=%d density=%g%s%s ", int(s.tasks),
             int(s.rows), int(s.hidden), int(s.inner), s.density, s.shared ? " shared" : "",
             s.offset ? " unaligned" : "");
    return text + how;
  }

  void check_result(const std::string& how) const {
    Matrix input(n * s.hidden);
    for (int64_t i = 0; i < n * s.hidden; ++i) input[i] = ctx.get(i);
    Matrix hidden = attn.apply(input, s.rows);
    for (int64_t i = 0; i < n * s.hidden; ++i)
      hidden[i] += residual.get(i % (s.shared ? s.rows * s.hidden : n * s.hidden));
    first.apply(s, kEps, hidden);
    Matrix middle = up.apply(rounded<T>(hidden), s.rows);
    for (double& v : middle) v *= 0.5 * (1 + std::erf(v / std::sqrt(2.0)));
    Matrix exact = down.apply(rounded<T>(middle), s.rows);
    for (int64_t i = 0; i < n * s.hidden; ++i) exact[i] += hidden[i];
    second.apply(s, kEps, exact);
    // A value between two numbers of T may be rounded to the other one, which the next product
    // sees.
    check(title(how), out, exact, std::is_same_v<T, float> ? 2e-6 : kRounding<T> / 4);
  }
};

template <typename T>
void test(const Shape& s, ClsTailLaunch how) {
  Layer<T> layer(s);
  const auto p = layer.params();
  const std::string name = how == ClsTailLaunch::kChain ? "chain" : "persistent";
  if (cls_tail_cuda(&p, 1, nullptr, how)) return report(layer.title(name), INFINITY, 1);
  layer.check_result(name);
}

// Layers of other tasks and rows, all in one launch.
template <typename T>
void test_layers(const std::vector<Shape>& shapes, ClsTailLaunch how) {
  std::vector<std::unique_ptr<Layer<T>>> layers;
  std::vector<ClsTailCudaParams<T>> params;
  for (const Shape& s : shapes) {
    layers.push_back(std::make_unique<Layer<T>>(s));
    params.push_back(layers.back()->params());
  }
  const std::string name = "of " + std::to_string(shapes.size()) +
                           (how == ClsTailLaunch::kChain ? " layers in chains" : " layers at once");
  if (cls_tail_cuda(params.data(), static_cast<int64_t>(params.size()), nullptr, how))
    return report(layers[0]->title(name), INFINITY, 1);
  for (const auto& layer : layers) {
    if (layer->n) layer->check_result(name);
  }
}

}  // namespace

void test_cls_tail() {
  for_each_dtype([](auto element) {
    using T = decltype(element);
    for (const auto how : {ClsTailLaunch::kPersistent, ClsTailLaunch::kChain}) {
      test<T>({1, 1, 64, 256, 0.02, true}, how);
      test<T>({2, 3, 40, 72, 0.1, false}, how);
      test<T>({3, 7, 24, 56, 0.1, true}, how);
      test<T>({2, 1, 33, 21, 0.2, false}, how);
      test<T>({1, 5, 32, 40, -1, false, 1}, how);
      test<T>({1, 2, 16, 24, 1.0, true}, how);
      test_layers<T>({{1, 1, 40, 72, 0.1, true},
                      {3, 7, 40, 72, 0.1, false},
                      {2, 0, 40, 72, -1, true},
                      {2, 1, 40, 72, -1, true}},
                     how);
    }
    test_layers<T>({{2, 2, 33, 21, 0.1, true}, {1, 9, 33, 21, 0.2, false}},
                   ClsTailLaunch::kAutomatic);
    // A wide device: blocks without a part in some layer, and without any.
    emu::device_multiprocessors = 11;
    test_layers<T>({{1, 1, 16, 32, 0.1, true}, {1, 2, 16, 32, 0.1, true}, {1, 1, 16, 32, -1, true}},
                   ClsTailLaunch::kPersistent);
    emu::device_multiprocessors = 3;
    // A GPU whose shared memory holds a few rows at a time.
    const size_t usual = emu::device_shared_bytes;
    emu::device_shared_bytes = (std::is_same_v<T, float> ? 52 : 45) << 10;
    test<T>({2, 3, 48, 120, 0.1, true}, ClsTailLaunch::kAutomatic);
    emu::device_shared_bytes = usual;
  });
}

}  // namespace lets::test

// cls_attention against float64, by forming the keys and values of every task.
#include "kernels/cls_attention_cuda.h"
#include "support.h"

namespace lets::test {
namespace {

struct Shape {
  int64_t tasks, batch, length, heads, dim;
  double density;  // of both deltas; negative: none
  bool one_x, cached, weights;
  bool masked = true;
  int64_t offset = 0;
  bool gradient = false;
};

std::string name(const Shape& s) {
  char text[160];
  snprintf(text, sizeof(text), "cls_attention%s T=%d B=%d S=%d A=%d D=%d density=%g%s%s%s%s",
           s.gradient ? " gradient" : "", int(s.tasks), int(s.batch), int(s.length), int(s.heads),
           int(s.dim), s.density, s.one_x ? " shared x" : "", s.cached ? " cached" : "",
           s.weights ? " weights" : "", s.offset ? " unaligned" : "");
  return text;
}

// One of K and V.
template <typename T>
struct Projection {
  Csr csr;
  Buffer<T> cached, weight, values;

  Projection(const Shape& s, int64_t hidden)
      : csr(random_csr(s.tasks * hidden, hidden, std::max(s.density, 0.0))),
        cached((s.one_x ? 1 : s.tasks) * s.batch * s.length * hidden, s.offset),
        weight(hidden * hidden, s.offset),
        values(csr.nnz()) {
    cached.fill();
    weight.fill(1 / std::sqrt(double(hidden)));
    values.fill(0.2);
  }

  ClsProjection<T> params(const Shape& s, int64_t hidden) const {
    ClsProjection<T> p;
    const int64_t row = s.length * hidden;
    if (s.cached) p.cached = {cached.data(), s.one_x ? 0 : s.batch * row, row, hidden};
    if (s.weights) p.weight = weight.data();
    if (s.density < 0) return p;
    p.crow = csr.crow.data();
    p.col = csr.col.data();
    p.values = values.data();
    return p;
  }

  // Feature `o` of a token: what a dense model would hold.
  double at(const Shape& s, const Buffer<T>& x, int64_t hidden, int64_t t, int64_t token,
            int64_t o) const {
    double sum = s.cached ? cached.get(token * hidden + o) : 0;
    for (int64_t i = 0; s.weights && i < hidden; ++i)
      sum += weight.get(o * hidden + i) * x.get(token * hidden + i);
    if (s.density < 0) return sum;
    for (int32_t e = csr.crow[t * hidden + o]; e < csr.crow[t * hidden + o + 1]; ++e)
      sum += values.get(e) * x.get(token * hidden + csr.col[e]);
    return sum;
  }
};

// One row of [S] per (task, head) that sums up to 1 over the attended tokens.
void fill_probabilities(const Shape& s, const std::vector<uint8_t>& mask, Buffer<float>& probs) {
  for (int64_t r = 0; r < probs.size() / s.length; ++r) {
    const int64_t b = r / (s.tasks * s.heads);
    double total = 1e-9;
    std::vector<double> e(s.length);
    for (int64_t n = 0; n < s.length; ++n)
      total += e[n] = !s.masked || mask[b * s.length + n] ? std::exp(normal()) : 0;
    for (int64_t n = 0; n < s.length; ++n) probs.data()[r * s.length + n] = float(e[n] / total);
  }
}

template <typename T>
void test(const Shape& s, bool again = false) {
  const int64_t hidden = s.heads * s.dim, rows = s.batch * s.tasks * s.heads;
  Buffer<T> q(s.tasks * s.batch * hidden, s.offset),
      x((s.one_x ? 1 : s.tasks) * s.batch * s.length * hidden, s.offset),
      value_bias(s.tasks * hidden), attn_bias(s.heads * s.length), out(q.size(), s.offset);
  q.fill();
  x.fill();
  value_bias.fill(0.2);
  attn_bias.fill();
  const Projection<T> key(s, hidden), value(s, hidden);
  std::vector<uint8_t> mask(s.batch * s.length);
  for (int64_t i = 0; i < s.batch * s.length; ++i)
    mask[i] = i / s.length == 1 ? 0 : coin(0.7);  // the second sequence attends to nothing
  Buffer<float> probs(rows * s.length), z(rows * hidden), px(rows * hidden);
  const double scale = 1 / std::sqrt(double(s.dim));
  const int64_t row = s.length * hidden;
  const bool reads_x = s.weights || s.density >= 0;
  Buffer<float> forward(probs.size());
  fill_probabilities(s, mask, forward);
  ClsAttentionParams<T> p{q.data(),
                          {x.data(), s.one_x ? 0 : s.batch * row, row, hidden},
                          key.params(s, hidden),
                          value.params(s, hidden),
                          s.gradient ? nullptr : value_bias.data(),
                          s.masked ? mask.data() : nullptr,
                          s.gradient ? nullptr : attn_bias.data(),
                          out.data(),
                          nullptr,
                          reads_x ? z.data() : nullptr,
                          reads_x ? px.data() : nullptr,
                          probs.data(),
                          s.tasks,
                          s.batch,
                          s.length,
                          hidden,
                          s.heads,
                          0,
                          scale,
                          s.gradient ? forward.data() : nullptr};
  if (cls_attention_cuda(p, nullptr)) return report(name(s), INFINITY, 1);

  std::vector<double> exact(out.size()), exact_probs(probs.size()), exact_px(px.size());
  for (int64_t t = 0; t < s.tasks; ++t) {
    for (int64_t b = 0; b < s.batch; ++b) {
      for (int64_t a = 0; a < s.heads; ++a) {
        const int64_t first = ((s.one_x ? 0 : t) * s.batch + b) * s.length;
        std::vector<double> e(s.length);
        double total = 0;
        const int64_t r = (b * s.tasks + t) * s.heads + a;
        for (int64_t n = 0; n < s.length; ++n) {
          double score = 0;
          for (int64_t d = 0; d < s.dim; ++d) {
            score += q.get((t * s.batch + b) * hidden + a * s.dim + d) *
                     key.at(s, x, hidden, t, first + n, a * s.dim + d);
          }
          const bool attended = !s.masked || mask[b * s.length + n];
          e[n] = !attended    ? 0
                 : s.gradient ? score * scale
                              : std::exp(score * scale + attn_bias.get(a * s.length + n));
          total += s.gradient ? e[n] * forward.get(r * s.length + n) : e[n];
        }
        for (int64_t n = 0; n < s.length; ++n) {
          if (s.gradient) e[n] = forward.get(r * s.length + n) * (e[n] - total);
          if (!s.gradient && total > 0) e[n] /= total;
          exact_probs[r * s.length + n] = e[n];
          for (int64_t i = 0; i < hidden; ++i)
            exact_px[r * hidden + i] += e[n] * x.get((first + n) * hidden + i);
          for (int64_t d = 0; d < s.dim; ++d) {
            exact[(t * s.batch + b) * hidden + a * s.dim + d] +=
                e[n] * value.at(s, x, hidden, t, first + n, a * s.dim + d);
          }
        }
        for (int64_t d = 0; d < s.dim; ++d) {
          exact[(t * s.batch + b) * hidden + a * s.dim + d] +=
              s.gradient ? 0 : value_bias.get(t * hidden + a * s.dim + d);
        }
      }
    }
  }
  // Tensor cores get z and p rounded to T.
  const double allowed = std::is_same_v<T, float> ? 2e-6 : kRounding<T>;
  const std::string dtype = std::string(" ") + kName<T>;
  check(name(s), out, exact, allowed);
  check(name(s) + dtype + ": probabilities in", probs, exact_probs, allowed);
  if (reads_x) check(name(s) + dtype + ": p . x in", px, exact_px, allowed);
  if (!again) return;
  p.z = p.px = p.probs = nullptr;
  if (cls_attention_cuda(p, nullptr)) return report(name(s), INFINITY, 1);
  check(name(s) + ", nothing saved", out, exact, allowed);
}

}  // namespace

void test_cls_attention() {
  for_each_dtype([](auto element) {
    using T = decltype(element);
    test<T>({3, 2, 11, 4, 16, 0.1, true, true, false}, true);
    test<T>({2, 3, 5, 3, 8, 0.2, true, false, true});
    test<T>({9, 2, 7, 2, 8, 0.1, true, true, false});
    test<T>({2, 2, 9, 2, 8, 0.1, false, true, false});
    test<T>({2, 2, 6, 2, 8, 0.0, false, false, true});
    test<T>({1, 1, 33, 2, 4, 1.0, true, true, false, false});
    test<T>({2, 2, 5, 2, 8, -1, true, true, false});
    test<T>({2, 2, 5, 3, 5, 0.2, true, true, true, true, 1}, true);
    test<T>({1, 2, 1, 1, 1, 0.5, true, true, false});
    test<T>({2, 2, 37, 9, 8, 0.3, true, true, true});
    test<T>({1, 2, 18, 2, 72, 0.05, true, false, true});
    test<T>({3, 2, 11, 4, 16, 0.1, true, true, false, true, 0, true});
    test<T>({2, 3, 37, 3, 8, 0.2, true, false, true, true, 0, true});
    test<T>({2, 2, 9, 2, 8, 0.1, false, true, true, false, 0, true});
    test<T>({2, 2, 5, 3, 5, 0.2, true, true, true, true, 1, true});
  });
}

}  // namespace lets::test

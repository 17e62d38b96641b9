// What the kernels move at real sizes, counted in emulation: a JSON array on stdout, one row per
// kernel and shape. `floor_bytes`: every 32-byte sector once, what device memory has to move;
// `requested_bytes`: what warps ask the caches for; shared wavefronts / requests: bank conflicts.
#include <cstdio>

#include "emu/traffic.h"
#include "kernels/cls_attention_cuda.h"
#include "kernels/cls_tail_cuda.h"
#include "kernels/delta_linear_cuda.h"
#include "kernels/epilogues_cuda.h"
#include "support.h"

namespace lets::test {
namespace {

constexpr double kDensity = 0.005;
bool first_row = true;

template <typename T>
void name(const char* text, const Buffer<T>& buffer) {
  emu::name_buffer(text, buffer.data(), buffer.size() * sizeof(T));
}
void name(const std::string& text, const Csr& csr) {
  emu::name_buffer(text + " offsets", csr.crow.data(), csr.crow.size() * sizeof(int32_t));
  emu::name_buffer(text + " indices", csr.col.data(), csr.col.size() * sizeof(int32_t));
}

void print_row(const char* op, const std::string& shape, const char* dtype) {
  const emu::Traffic t = emu::stop_counting();
  int64_t floor = 0, requested = 0;
  for (const auto& [name, b] : t.buffers) {
    floor += b.read + b.written;
    requested += b.read_requested + b.write_requested;
  }
  printf(
      "%s\n {\"op\": \"%s\", \"shape\": \"%s\", \"dtype\": \"%s\", \"floor_bytes\": %lld, "
      "\"requested_bytes\": %lld, \"shared_requests\": %lld, \"shared_wavefronts\": %lld,\n"
      "  \"buffers\": {",
      first_row ? "[" : ",", op, shape.c_str(), dtype, (long long)floor, (long long)requested,
      (long long)t.shared_requests, (long long)t.shared_wavefronts);
  const char* comma = "";
  for (const auto& [name, b] : t.buffers) {
    printf(
        "%s\"%s\": {\"read\": %lld, \"read_requested\": %lld, \"written\": %lld, "
        "\"write_requested\": %lld}",
        comma, name.c_str(), (long long)b.read, (long long)b.read_requested, (long long)b.written,
        (long long)b.write_requested);
    comma = ", ";
  }
  printf("}}");
  fflush(stdout);
  first_row = false;
}

std::string text(const char* format, int64_t a, int64_t b, int64_t c, int64_t d) {
  char buffer[100];
  snprintf(buffer, sizeof(buffer), format, int(a), int(b), int(c), int(d));
  return buffer;
}

template <typename T>
void delta_qkv(int64_t tasks, int64_t tokens, int64_t hidden, const char* note = "") {
  const int64_t out_features = 3 * hidden;
  const Csr csr = random_csr(tasks * out_features, hidden, kDensity);
  const Transposed transposed = transpose(csr, tasks, out_features, hidden);
  Buffer<T> base(tokens * out_features), x(tokens * hidden), values(csr.nnz()),
      out(tasks * tokens * out_features), grad_x(tasks * tokens * hidden), grad_values(csr.nnz());
  base.fill();
  x.fill();
  values.fill();
  const std::string shape = text("T=%d N=%d H=%d density=0.005", tasks, tokens, hidden, 0) + note;
  emu::start_counting();
  name("base", base);
  name("x", x);
  name("values", values);
  name("out", out);
  name("delta", csr);
  const RowsView<const T> x_view{x.data(), 0, hidden};
  delta_linear_cuda<T>({{base.data(), 0, out_features},
                        x_view,
                        csr.crow.data(),
                        csr.col.data(),
                        nullptr,
                        values.data(),
                        nullptr,
                        out.data(),
                        tasks,
                        tokens,
                        hidden,
                        out_features},
                       nullptr);
  print_row("delta_qkv", shape, kName<T>);
  if (*note) return;

  emu::start_counting();
  name("grad", out);
  name("values", values);
  name("grad_x", grad_x);
  emu::name_buffer("offsets", transposed.ccol.data(), transposed.ccol.size() * 4);
  emu::name_buffer("indices", transposed.row.data(), transposed.row.size() * 4);
  emu::name_buffer("permutation", transposed.permutation.data(), transposed.permutation.size() * 4);
  const RowsView<const T> grad{out.data(), tokens * out_features, out_features};
  delta_linear_cuda<T>({{nullptr, 0, 0},
                        grad,
                        transposed.ccol.data(),
                        transposed.row.data(),
                        transposed.permutation.data(),
                        values.data(),
                        nullptr,
                        grad_x.data(),
                        tasks,
                        tokens,
                        out_features,
                        hidden},
                       nullptr);
  print_row("delta_linear_bwd_x", shape, kName<T>);

  Buffer<float> partial(delta_linear_values_cuda_splits(tokens) * csr.nnz());
  emu::start_counting();
  name("grad", out);
  name("x", x);
  name("partial", partial);
  name("grad_values", grad_values);
  name("delta", csr);
  delta_linear_bwd_values_cuda<T>(
      {grad, x_view, csr.crow.data(), csr.col.data(), partial.data(), grad_values.data(), tasks,
       tokens, hidden, out_features, csr.nnz()},
      nullptr);
  print_row("delta_linear_bwd_values", shape, kName<T>);
}

template <typename T>
void cls_attention(int64_t tasks, int64_t length, int64_t hidden, int64_t heads) {
  const Csr csr = random_csr(tasks * hidden, hidden, kDensity);
  Buffer<T> q(tasks * hidden), x(length * hidden), key(length * hidden), value(length * hidden),
      values(csr.nnz()), out(tasks * hidden);
  Buffer<float> probs(tasks * heads * length), z(tasks * heads * hidden), px(z.size());
  q.fill();
  x.fill();
  key.fill();
  value.fill();
  values.fill();
  emu::start_counting();
  name("q", q);
  name("x", x);
  name("key", key);
  name("value", value);
  name("values", values);
  name("out", out);
  name("probs", probs);
  name("z", z);
  name("px", px);
  name("delta", csr);
  ClsAttentionParams<T> p{};
  p.q = q.data();
  p.x = {x.data(), 0, length * hidden, hidden};
  p.key.cached = {key.data(), 0, length * hidden, hidden};
  p.value.cached = {value.data(), 0, length * hidden, hidden};
  p.key.crow = p.value.crow = csr.crow.data();
  p.key.col = p.value.col = csr.col.data();
  p.key.values = p.value.values = values.data();
  p.out = out.data();
  p.z = z.data();
  p.px = px.data();
  p.probs = probs.data();
  p.num_tasks = tasks;
  p.batch = 1;
  p.length = length;
  p.hidden = hidden;
  p.num_heads = heads;
  p.scale = 0.125;
  cls_attention_cuda(p, nullptr);
  print_row("cls_attention", text("T=%d B=1 S=%d H=%d A=%d", tasks, length, hidden, heads),
            kName<T>);
}

template <typename T>
void cls_tail(int64_t rows, int64_t hidden, int64_t inner) {
  const Csr sparse[3] = {random_csr(hidden, hidden, kDensity), random_csr(inner, hidden, kDensity),
                         random_csr(hidden, inner, kDensity)};
  Buffer<T> weights(hidden * hidden + 2 * hidden * inner), bias(inner), ctx(rows * hidden),
      residual(rows * hidden), out(rows * hidden), middle(rows * inner),
      values(sparse[0].nnz() + sparse[1].nnz() + sparse[2].nnz());
  Buffer<float> sums(rows * hidden), h(rows * hidden), down_sums(rows * hidden);
  weights.fill(0.03);
  bias.fill();
  ctx.fill();
  residual.fill();
  values.fill(0.03);
  emu::start_counting();
  name("weights", weights);
  name("vectors", bias);
  name("ctx", ctx);
  name("residual", residual);
  name("out", out);
  name("values", values);
  name("workspace inner", middle);
  name("workspace sums", sums);
  name("workspace h", h);
  name("workspace down", down_sums);
  const T *w = weights.data(), *v = values.data();
  const auto layer = [&](int i, int64_t out_features, int64_t in_features) {
    const char* names[] = {"delta of W_O", "delta of W_1", "delta of W_2"};
    name(std::string(names[i]), sparse[i]);
    const TailLinear<T> result{
        w,          {bias.data(), 0}, sparse[i].crow.data(), sparse[i].col.data(), v, out_features,
        in_features};
    w += out_features * in_features;
    v += sparse[i].nnz();
    return result;
  };
  ClsTailCudaParams<T> p{};
  p.ctx = ctx.data();
  p.residual = residual.data();
  p.attn = layer(0, hidden, hidden);
  p.up = layer(1, inner, hidden);
  p.down = layer(2, hidden, inner);
  p.attn_norm_weight = p.attn_norm_bias = p.norm_weight = p.norm_bias = {bias.data(), 0};
  p.out = out.data();
  p.attn_sums = sums.data();
  p.h = h.data();
  p.inner = middle.data();
  p.down_sums = down_sums.data();
  p.num_tasks = 1;
  p.num_rows = rows;
  p.hidden = hidden;
  p.inner_features = inner;
  p.eps = 1e-12;
  cls_tail_cuda(&p, 1, nullptr);
  print_row("cls_tail", text("T=1 M=%d H=%d F=%d", rows, hidden, inner, 0), kName<T>);
}

template <typename T>
void epilogues(int64_t tokens, int64_t hidden) {
  Buffer<T> x(tokens * hidden), residual(tokens * hidden), vector(hidden), grad(tokens * hidden),
      out(tokens * hidden);
  Buffer<float> mean(tokens), rstd(tokens), sums(3 * num_splits(tokens) * hidden);
  for (Buffer<T>* buffer : {&x, &residual, &vector, &grad}) buffer->fill();
  const auto measure = [&](const char* op, bool norm, bool backward, const auto& run) {
    emu::start_counting();
    name("x", x);
    name("vectors", vector);
    name("out", out);
    if (norm) name("residual", residual);
    if (backward) name("grad", grad);
    if (backward) name("sums", sums);
    run();
    print_row(op, text("T=1 N=%d H=%d", tokens, hidden, 0, 0), kName<T>);
  };
  const T* v = vector.data();
  measure("add_layer_norm", true, false, [&] {
    add_layer_norm_cuda<T>({x.data(), residual.data(), v, v, v, out.data(), mean.data(),
                            rstd.data(), tokens, hidden, 0, 0, 0, 0, 1e-12},
                           1, nullptr);
  });
  measure("add_layer_norm_bwd", true, true, [&] {
    add_layer_norm_bwd_cuda<T>({grad.data(), x.data(), residual.data(), v, v, mean.data(),
                                rstd.data(), out.data(), sums.data(), 1, tokens, hidden, 0, 0, 0},
                               nullptr);
  });
  measure("bias_gelu", false, false,
          [&] { bias_gelu_cuda<T>({x.data(), v, out.data(), tokens, hidden, 0}, 1, nullptr); });
  measure("bias_gelu_bwd", false, true, [&] {
    bias_gelu_bwd_cuda<T>({grad.data(), x.data(), v, out.data(), sums.data(), 1, tokens, hidden, 0},
                          nullptr);
  });
}

}  // namespace
}  // namespace lets::test

int main() {
  using namespace lets::test;
  // As many multiprocessors as an H200 has, so that grids are cut as they would be there.
  emu::device_multiprocessors = 132;
  delta_qkv<lets::BFloat16>(1, 128, 768);
  delta_qkv<lets::BFloat16>(8, 128, 768);
  delta_qkv<float>(1, 128, 768);
  // A few multiprocessors: the share of each in a call of thousands of rows.
  emu::device_multiprocessors = 4;
  delta_qkv<lets::BFloat16>(8, 128, 768, " (of many rows)");
  emu::device_multiprocessors = 132;
  cls_attention<lets::BFloat16>(1, 128, 768, 12);
  cls_attention<lets::BFloat16>(8, 128, 768, 12);
  cls_attention<float>(8, 128, 768, 12);
  // A cooperative grid is emulated as a whole, and a process can only map so many stacks.
  emu::device_multiprocessors = 60;
  for (const int rows : {1, 8, 16}) cls_tail<lets::BFloat16>(rows, 768, 3072);
  cls_tail<float>(1, 768, 3072);
  epilogues<lets::BFloat16>(128, 768);
  printf("\n]\n");
  return 0;
}

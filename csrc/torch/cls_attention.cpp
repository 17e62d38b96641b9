// Tensor side of cls_attention: check, allocate, dispatch, register.
#include "kernels/cls_attention.h"

#include <torch/csrc/stable/library.h>

#include <cmath>
#include <optional>
#include <tuple>

#include "torch/delta_linear_common.h"
#include "torch/on_cpu.h"
#include "torch/parallel.h"
#ifdef USE_CUDA
#include "kernels/cls_attention_cuda.h"
#include "torch/cuda.h"
#endif

namespace lets {
namespace {

constexpr const char* kOp = "cls_attention";
using OptionalTensor = std::optional<Tensor>;

struct Shape {
  int64_t tasks, batch, length, hidden, heads;
};

Tensor check_tokens(const char* name, const Tensor& t, const Tensor& q, const Shape& s) {
  STD_TORCH_CHECK(t.dim() == 4 && (t.size(0) == 1 || t.size(0) == s.tasks) &&
                      t.size(1) == s.batch && t.size(2) == s.length && t.size(3) == s.hidden,
                  kOp, ": ", name, " must have shape [1 or ", s.tasks, ", ", s.batch, ", ",
                  s.length, ", ", s.hidden, "], got ", shape_string(t));
  check_dtype(kOp, name, t, "q", q);
  check_elements(kOp, name, t);
  return s.hidden == 1 || t.stride(3) == 1 ? t : torch::stable::contiguous(t);
}

OptionalTensor check_matrix(const char* name, const OptionalTensor& t, ScalarType dtype,
                            int64_t rows, int64_t columns) {
  if (!t) return t;
  STD_TORCH_CHECK(t->dim() == 2 && t->size(0) == rows && t->size(1) == columns, kOp, ": ", name,
                  " must have shape [", rows, ", ", columns, "], got ", shape_string(*t));
  STD_TORCH_CHECK(t->scalar_type() == dtype, kOp, ": ", name, " must have ",
                  dtype == ScalarType::Bool ? "dtype bool" : "the dtype of q", ", got ",
                  dtype_name(*t));
  return torch::stable::contiguous(*t);
}

template <typename T>
const T* data_or_null(const OptionalTensor& t) {
  return t ? const_data<T>(*t) : nullptr;
}

template <typename T>
TokensView<T> tokens_view(const Tensor& t) {
  return {const_data<T>(t), t.size(0) == 1 ? 0 : t.stride(0), t.stride(1), t.stride(2)};
}

// Checked tensors of one projection (keys or values).
struct Projection {
  OptionalTensor cached, weight, crow, col, values;

  Projection(const char* cached_name, const char* weight_name, const Tensor& q, const Shape& s,
             const OptionalTensor& cached_in, const OptionalTensor& weight_in,
             const OptionalTensor& crow_in, const OptionalTensor& col_in,
             const OptionalTensor& values_in)
      : crow(crow_in), col(col_in) {
    if (cached_in) cached = check_tokens(cached_name, *cached_in, q, s);
    weight = check_matrix(weight_name, weight_in, q.scalar_type(), s.hidden, s.hidden);
    STD_TORCH_CHECK(cached || weight, kOp, ": ", cached_name, " or ", weight_name,
                    " must be given, got neither");
    STD_TORCH_CHECK(
        crow.has_value() == col.has_value() && crow.has_value() == values_in.has_value(), kOp,
        ": crow_indices, col_indices and values of a delta must come together");
    if (crow) values = check_csr(kOp, *crow, *col, *values_in, q, s.tasks * s.hidden, s.hidden);
  }

  bool reads_x() const { return weight || crow; }

  template <typename T>
  ClsProjection<T> params() const {
    ClsProjection<T> p;
    if (cached) p.cached = tokens_view<T>(*cached);
    p.weight = data_or_null<T>(weight);
    p.crow = data_or_null<int32_t>(crow);
    p.col = data_or_null<int32_t>(col);
    p.values = data_or_null<T>(values);
    return p;
  }
};

struct Cpu : OnCpu {
  // The phases hand queries, z, px and probabilities to each other through memory.
  static constexpr bool kNeedsRows = true;

  template <typename T>
  static void run(ClsAttentionParams<T> p, const Tensor&) {
    const bool shared = p.x.task_stride == 0;
    const int64_t rows = (shared ? p.num_tasks : 1) * p.num_heads;
    const int64_t sequences = p.batch * (shared ? 1 : p.num_tasks);
    with_isa([&](auto isa) {
      p.rows_per_chunk = cls_attention_plan<isa(), T>(p, torch::stable::get_num_threads());
      const int64_t groups = (rows + p.rows_per_chunk - 1) / p.rows_per_chunk;
      const auto phase = [&](ClsPhase which, int64_t chunks) {
        parallel_chunks(chunks, [&](int64_t i) { cls_attention_cpu<isa(), T>(p, which, i); });
      };
      phase(ClsPhase::kQueries, p.num_heads);
      phase(ClsPhase::kScores, sequences * groups);
      phase(ClsPhase::kContext, p.num_heads);
    });
  }
};

#ifdef USE_CUDA
struct Cuda : OnCuda {
  static constexpr bool kNeedsRows = false;

  template <typename T>
  static void run(const ClsAttentionParams<T>& p, const Tensor& q) {
    const CudaScope scope(kOp, q);
    scope.check(cls_attention_cuda(p, scope.stream()));
  }
};
#endif

// What a call writes: out and, of every (task, head) row, the probabilities, z and px.
struct Results {
  Tensor out, probs, z, px;
};

// Checked arguments that the forward pass and the gradient share.
struct Call {
  Tensor q, x;
  Shape shape;
  Projection keys, values;
  OptionalTensor mask, value_bias, scores_bias, forward_probs;
  double scale;

  // save: z, px and the probabilities are results, not just something to work with.
  template <typename Device>
  Results run(bool save) const {
    const Shape& s = shape;
    const ScalarType wide = accumulator_dtype(q);
    const bool write = save || Device::kNeedsRows;
    const auto wide_tensor = [&](bool needed, int64_t last) {
      return needed && write ? torch::stable::new_empty(q, {s.batch, s.tasks, s.heads, last}, wide)
                             : torch::stable::new_empty(q, {0}, wide);
    };
    Results r{torch::stable::new_empty(q, {s.tasks, s.batch, s.hidden}),
              wide_tensor(true, s.length), wide_tensor(keys.reads_x(), s.hidden),
              wide_tensor(values.reads_x(), s.hidden)};
    Tensor rows = wide_tensor(false, 0);
    if (Device::kNeedsRows) rows = torch::stable::new_empty(q, {s.batch, s.tasks, s.hidden}, wide);
    Device::with_dtype(kOp, q, [&](auto element) {
      using T = decltype(element);
      using A = Accumulator<T>;
      const auto optional = [&](bool needed, Tensor& t) {
        return needed && write ? mutable_data<A>(t) : nullptr;
      };
      Device::template run<T>({const_data<T>(q),
                               tokens_view<T>(x),
                               keys.params<T>(),
                               values.params<T>(),
                               data_or_null<T>(value_bias),
                               data_or_null<uint8_t>(mask),
                               data_or_null<T>(scores_bias),
                               mutable_data<T>(r.out),
                               mutable_data<A>(rows),
                               optional(keys.reads_x(), r.z),
                               optional(values.reads_x(), r.px),
                               optional(true, r.probs),
                               s.tasks,
                               s.batch,
                               s.length,
                               s.hidden,
                               s.heads,
                               1,
                               scale,
                               data_or_null<A>(forward_probs)},
                              q);
    });
    if (save) return r;
    const auto nothing = [&] { return torch::stable::new_empty(q, {0}, wide); };
    return {r.out, nothing(), nothing(), nothing()};
  }
};

Shape check_shape(const char* name, const Tensor& q, const Tensor& x, int64_t num_heads) {
  STD_TORCH_CHECK(q.dim() == 3 && q.size(0) > 0 && q.size(2) > 0, kOp, ": ", name,
                  " must have shape [T, B, H], got ", shape_string(q));
  STD_TORCH_CHECK(num_heads > 0 && q.size(2) % num_heads == 0, kOp,
                  ": num_heads must divide the hidden size ", q.size(2), ", got ", num_heads);
  STD_TORCH_CHECK(x.dim() == 4, kOp, ": x must have shape [1 or ", q.size(0), ", B, S, H], got ",
                  shape_string(x));
  const Shape s{q.size(0), q.size(1), x.size(2), q.size(2), num_heads};
  check_elements(kOp, "the probabilities", {s.batch, s.tasks, s.heads, s.length});
  check_elements(kOp, "the workspace", {s.batch, s.tasks, s.heads, s.hidden});
  return s;
}

template <typename Device>
std::tuple<Tensor, Tensor, Tensor, Tensor> cls_attention(
    const Tensor& q, const Tensor& x, const OptionalTensor& key, const OptionalTensor& value,
    const OptionalTensor& key_weight, const OptionalTensor& value_weight,
    const OptionalTensor& key_crow, const OptionalTensor& key_col, const OptionalTensor& key_values,
    const OptionalTensor& value_crow, const OptionalTensor& value_col,
    const OptionalTensor& value_values, const OptionalTensor& value_bias,
    const OptionalTensor& key_mask, const OptionalTensor& attn_bias, int64_t num_heads,
    double scale, bool save) {
  Device::check_devices(kOp, "q", q, x, key, value, key_weight, value_weight, key_crow, key_col,
                        key_values, value_crow, value_col, value_values, value_bias, key_mask,
                        attn_bias);
  const Shape s = check_shape("q", q, x, num_heads);
  STD_TORCH_CHECK(std::isfinite(scale), kOp, ": scale must be a finite number, got ", scale);
  const ScalarType dtype = q.scalar_type();
  const Call call{
      torch::stable::contiguous(q),
      check_tokens("x", x, q, s),
      s,
      Projection("key", "key_weight", q, s, key, key_weight, key_crow, key_col, key_values),
      Projection("value", "value_weight", q, s, value, value_weight, value_crow, value_col,
                 value_values),
      check_matrix("key_mask", key_mask, ScalarType::Bool, s.batch, s.length),
      check_matrix("value_bias", value_bias, dtype, s.tasks, s.hidden),
      check_matrix("attn_bias", attn_bias, dtype, s.heads, s.length),
      {},
      scale};
  const Results r = call.template run<Device>(save);
  return {r.out, r.probs, r.z, r.px};
}

template <typename Device>
std::tuple<Tensor, Tensor, Tensor, Tensor> cls_attention_bwd(
    const Tensor& grad, const Tensor& x, const Tensor& probs, const OptionalTensor& key,
    const OptionalTensor& value, const OptionalTensor& key_weight,
    const OptionalTensor& value_weight, const OptionalTensor& key_crow,
    const OptionalTensor& key_col, const OptionalTensor& key_values,
    const OptionalTensor& value_crow, const OptionalTensor& value_col,
    const OptionalTensor& value_values, const OptionalTensor& key_mask, int64_t num_heads,
    double scale) {
  Device::check_devices(kOp, "grad", grad, x, probs, key, value, key_weight, value_weight, key_crow,
                        key_col, key_values, value_crow, value_col, value_values, key_mask);
  const Shape s = check_shape("grad", grad, x, num_heads);
  STD_TORCH_CHECK(probs.numel() == s.batch * s.tasks * s.heads * s.length &&
                      probs.scalar_type() == accumulator_dtype(grad),
                  kOp, ": probs must be those of the forward pass, [", s.batch, ", ", s.tasks, ", ",
                  s.heads, ", ", s.length, "], got ", shape_string(probs));
  const Call call{
      torch::stable::contiguous(grad),
      check_tokens("x", x, grad, s),
      s,
      Projection("value", "value_weight", grad, s, value, value_weight, value_crow, value_col,
                 value_values),
      Projection("key", "key_weight", grad, s, key, key_weight, key_crow, key_col, key_values),
      check_matrix("key_mask", key_mask, ScalarType::Bool, s.batch, s.length),
      {},
      {},
      torch::stable::contiguous(probs),
      scale};
  const Results r = call.template run<Device>(true);
  return {r.out, r.probs, r.z, r.px};
}

}  // namespace
}  // namespace lets

STABLE_TORCH_LIBRARY_IMPL(lets_ext, CPU, m) {
  m.impl("cls_attention", TORCH_BOX(&lets::cls_attention<lets::Cpu>));
  m.impl("cls_attention_bwd", TORCH_BOX(&lets::cls_attention_bwd<lets::Cpu>));
}
#ifdef USE_CUDA
STABLE_TORCH_LIBRARY_IMPL(lets_ext, CUDA, m) {
  m.impl("cls_attention", TORCH_BOX(&lets::cls_attention<lets::Cuda>));
  m.impl("cls_attention_bwd", TORCH_BOX(&lets::cls_attention_bwd<lets::Cuda>));
}
#endif

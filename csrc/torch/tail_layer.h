// The tensors of a layer's tail, checked, with its result and workspace.
#pragma once
#include <optional>

#include "kernels/cls_tail.h"
#include "torch/delta_linear_common.h"
#include "torch/task_vectors.h"

namespace lets {

// Checked tensors of one linear layer.
struct TailLinearTensors {
  Tensor weight, bias;
  std::optional<Tensor> crow, col, values;

  TailLinearTensors(const char* op, const char* weight_name, const char* bias_name,
                    const Tensor& ctx, int64_t out_features, int64_t in_features,
                    const Tensor& weight_in, const Tensor& bias_in,
                    const std::optional<Tensor>& crow_in, const std::optional<Tensor>& col_in,
                    const std::optional<Tensor>& values_in)
      : weight(weight_in), bias(bias_in), crow(crow_in), col(col_in) {
    STD_TORCH_CHECK(
        weight.dim() == 2 && weight.size(0) == out_features && weight.size(1) == in_features, op,
        ": ", weight_name, " must have shape [", out_features, ", ", in_features, "], got ",
        shape_string(weight));
    check_dtype(op, weight_name, weight, "ctx", ctx);
    check_elements(op, weight_name, weight);
    weight = torch::stable::contiguous(weight);
    bias = check_task_vector(op, bias_name, bias_in, "ctx", ctx, ctx.size(0), out_features);
    STD_TORCH_CHECK(
        crow.has_value() == col.has_value() && crow.has_value() == values_in.has_value(), op,
        ": crow_indices, col_indices and values of a delta must come together");
    if (crow)
      values = check_csr(op, *crow, *col, *values_in, ctx, ctx.size(0) * out_features, in_features);
  }

  template <typename T>
  TailLinear<T> params() const {
    return {const_data<T>(weight),
            {const_data<T>(bias), task_stride(bias)},
            crow ? const_data<int32_t>(*crow) : nullptr,
            crow ? const_data<int32_t>(*col) : nullptr,
            crow ? const_data<T>(*values) : nullptr,
            weight.size(0),
            weight.size(1)};
  }
};

// The parameters of both devices but for ctx and workspace.
template <typename T>
struct TailCall {
  const T* residual;
  int64_t residual_stride;
  TailLinear<T> attn, up, down;
  TaskVector<T> attn_norm_weight, attn_norm_bias, norm_weight, norm_bias;
  T* out;
  int64_t tasks, rows, hidden, inner;
  double eps;
};

// What a caller hands in; a delta is values, crow_indices and col_indices.
struct TailInputs {
  Tensor ctx, residual, out_weight, up_weight, down_weight;
  Tensor out_bias, attn_norm_weight, attn_norm_bias, up_bias, down_bias, norm_weight, norm_bias;
  std::optional<Tensor> out_delta[3], up_delta[3], down_delta[3];
};

struct TailLayer {
  int64_t tasks, rows, hidden, inner;
  Tensor ctx, residual;
  TailLinearTensors attn, up, down;
  Tensor attn_norm_weight, attn_norm_bias, norm_weight, norm_bias, out, workspace;
  double eps;

  TailLayer(const char* op, const TailInputs& in, double eps)
      : ctx(check_activations(op, "ctx", in.ctx)),
        residual(check_shared(op, "residual", in.residual, "ctx", ctx)),
        attn(linear(op, "out", in.out_weight, in.out_bias, in.out_delta, ctx.size(2), ctx.size(2))),
        up(linear(op, "up", in.up_weight, in.up_bias, in.up_delta, inner_size(op, in),
                  ctx.size(2))),
        down(linear(op, "down", in.down_weight, in.down_bias, in.down_delta, ctx.size(2),
                    inner_size(op, in))),
        eps(eps) {
    check_eps(op, eps);
    tasks = ctx.size(0), rows = ctx.size(1), hidden = ctx.size(2), inner = in.up_weight.size(0);
    const auto vector = [&](const char* name, const Tensor& t) {
      return check_task_vector(op, name, t, "ctx", ctx, tasks, hidden);
    };
    attn_norm_weight = vector("attn_norm_weight", in.attn_norm_weight);
    attn_norm_bias = vector("attn_norm_bias", in.attn_norm_bias);
    norm_weight = vector("norm_weight", in.norm_weight);
    norm_bias = vector("norm_bias", in.norm_bias);
    check_elements(op, "the workspace", {tasks, rows, 4, hidden > inner ? hidden : inner});
    out = torch::stable::new_empty(ctx, {tasks, rows, hidden});
    // Padded for the CPU, more than CUDA needs.
    workspace = torch::stable::new_empty(
        ctx, {tasks * rows, 3 * padded_row(hidden) + padded_row(inner)}, accumulator_dtype(ctx));
  }

  template <typename T>
  TailCall<T> call() const {
    const auto view = [](const Tensor& t) {
      return TaskVector<T>{const_data<T>(t), task_stride(t)};
    };
    return {const_data<T>(residual),
            task_stride(residual),
            attn.params<T>(),
            up.params<T>(),
            down.params<T>(),
            view(attn_norm_weight),
            view(attn_norm_bias),
            view(norm_weight),
            view(norm_bias),
            mutable_data<T>(out),
            tasks,
            rows,
            hidden,
            inner,
            eps};
  }

 private:
  static int64_t inner_size(const char* op, const TailInputs& in) {
    STD_TORCH_CHECK(in.up_weight.dim() == 2, op, ": up_weight must have shape [F, ", in.ctx.size(2),
                    "], got ", shape_string(in.up_weight));
    return in.up_weight.size(0);
  }
  TailLinearTensors linear(const char* op, const std::string& name, const Tensor& weight,
                           const Tensor& bias, const std::optional<Tensor> (&delta)[3],
                           int64_t out_features, int64_t in_features) const {
    return {op,
            (name + "_weight").c_str(),
            (name + "_bias").c_str(),
            ctx,
            out_features,
            in_features,
            weight,
            bias,
            delta[1],
            delta[2],
            delta[0]};
  }
};

}  // namespace lets

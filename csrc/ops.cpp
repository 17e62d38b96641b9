// Every op of lets_ext, on one screen. Implementations register themselves in csrc/torch/<op>.cpp;
// fake kernels and autograd are in lets_ext/<op>.py, together with the meaning of every argument.
#include <torch/csrc/stable/library.h>

STABLE_TORCH_LIBRARY(lets_ext, m) {
  // T sparse deltas at once: base [1|T, N, O] + x [1|T, N, I] . delta^T + bias [T, O]; also
  // delta_qkv. crow, col: CSR of [T*O, I]; ccol, row, permutation: its transpose, which only
  // backward reads.
  m.def(
      "delta_linear(Tensor base, Tensor x, Tensor values, Tensor crow_indices, Tensor col_indices, "
      "Tensor ccol_indices, Tensor row_indices, Tensor permutation, int num_tasks, "
      "Tensor? bias=None) -> Tensor");
  // grad [T, N, O] -> [T, N, I]
  m.def(
      "delta_linear_bwd_x(Tensor grad, Tensor values, Tensor ccol_indices, Tensor row_indices, "
      "Tensor permutation, int num_tasks, int in_features) -> Tensor");
  // grad [T, N, O], x [1|T, N, I] -> [nnz]
  m.def(
      "delta_linear_bwd_values(Tensor grad, Tensor x, Tensor crow_indices, Tensor col_indices, "
      "int num_tasks) -> Tensor");

  // One query per sequence, head and task against cached keys and values.
  // Returns ctx [T, B, H] and, if `save`, what backward needs: p [B, T, A, S], z and px
  // [B, T, A, H] or [0].
  m.def(
      "cls_attention(Tensor q, Tensor x, Tensor? key, Tensor? value, Tensor? key_weight, "
      "Tensor? value_weight, Tensor? key_crow_indices, Tensor? key_col_indices, "
      "Tensor? key_values, Tensor? value_crow_indices, Tensor? value_col_indices, "
      "Tensor? value_values, Tensor? value_bias, Tensor? key_mask, Tensor? attn_bias, "
      "int num_heads, float scale, bool save) -> (Tensor, Tensor, Tensor, Tensor)");
  // Gradients of q [T, B, H] and of the scaled scores [B, T, A, S], and what the others are made
  // of: (W_V + D_V)^T grad and ds . x, both [B, T, A, H] or [0].
  m.def(
      "cls_attention_bwd(Tensor grad, Tensor x, Tensor probs, Tensor? key, Tensor? value, "
      "Tensor? key_weight, Tensor? value_weight, Tensor? key_crow_indices, "
      "Tensor? key_col_indices, Tensor? key_values, Tensor? value_crow_indices, "
      "Tensor? value_col_indices, Tensor? value_values, Tensor? key_mask, int num_heads, "
      "float scale) -> (Tensor, Tensor, Tensor, Tensor)");
  // out = LN(h + gelu(h W1^T + b1) W2^T + b2), h = LN(residual + ctx W_O^T + b_O), deltas added.
  m.def(
      "cls_tail(Tensor ctx, Tensor residual, Tensor out_weight, Tensor up_weight, "
      "Tensor down_weight, Tensor out_bias, Tensor attn_norm_weight, Tensor attn_norm_bias, "
      "Tensor up_bias, Tensor down_bias, Tensor norm_weight, Tensor norm_bias, "
      "Tensor? out_values, Tensor? out_crow_indices, Tensor? out_col_indices, "
      "Tensor? out_ccol_indices, Tensor? out_row_indices, Tensor? out_permutation, "
      "Tensor? up_values, Tensor? up_crow_indices, Tensor? up_col_indices, "
      "Tensor? up_ccol_indices, Tensor? up_row_indices, Tensor? up_permutation, "
      "Tensor? down_values, Tensor? down_crow_indices, Tensor? down_col_indices, "
      "Tensor? down_ccol_indices, Tensor? down_row_indices, Tensor? down_permutation, "
      "float eps) -> Tensor");
  // cls_tail of several independent layers of one shape, without gradients. Per layer: weights of
  // out, up, down; vectors as above; values, crow_indices, col_indices of the three deltas, empty
  // where there is none.
  m.def(
      "cls_tail_layers(Tensor[] ctx, Tensor[] residual, Tensor[] weights, Tensor[] vectors, "
      "Tensor[] deltas, float eps) -> Tensor[]");
  // LN(x + residual + bias) * weight + norm_bias -> (out, mean, rstd)
  m.def(
      "add_layer_norm(Tensor x, Tensor residual, Tensor weight, Tensor norm_bias, Tensor? bias, "
      "float eps) -> (Tensor, Tensor, Tensor)");
  // Gradient of x and residual [T, N, H]; sums of those of weight, norm_bias and bias over splits
  // of the tokens [3, splits, T, H], in the accumulator's type.
  m.def(
      "add_layer_norm_bwd(Tensor grad, Tensor x, Tensor residual, Tensor weight, Tensor? bias, "
      "Tensor mean, Tensor rstd) -> (Tensor, Tensor)");
  m.def("bias_gelu(Tensor x, Tensor bias) -> Tensor");
  // Gradient of x [T, N, F], sums of that of bias over splits of the tokens [splits, T, F].
  m.def("bias_gelu_bwd(Tensor grad, Tensor x, Tensor bias) -> (Tensor, Tensor)");

  // Name of the instruction set in use; a non-empty argument chooses another one.
  m.def("select_isa(str name) -> str");
}

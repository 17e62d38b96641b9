"""Fused ops on sparse per-task deltas: functions of tensors that know neither BERT nor tasks."""

from lets_ext.add_layer_norm import add_layer_norm, add_layer_norm_ref
from lets_ext.bias_gelu import bias_gelu, bias_gelu_ref
from lets_ext.cls_attention import cls_attention, cls_attention_ref
from lets_ext.cls_tail import cls_tail, cls_tail_ref
from lets_ext.cls_tail_layers import cls_tail_layers, cls_tail_layers_ref
from lets_ext.delta_linear import delta_linear, delta_linear_ref
from lets_ext.delta_qkv import delta_qkv, delta_qkv_ref
from lets_ext.layout import Delta, DeltaLayout

__all__ = [
    "Delta",
    "DeltaLayout",
    "add_layer_norm",
    "add_layer_norm_ref",
    "bias_gelu",
    "bias_gelu_ref",
    "cls_attention",
    "cls_attention_ref",
    "cls_tail",
    "cls_tail_layers",
    "cls_tail_layers_ref",
    "cls_tail_ref",
    "delta_linear",
    "delta_linear_ref",
    "delta_qkv",
    "delta_qkv_ref",
]

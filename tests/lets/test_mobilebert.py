"""MobileBERT's formulas against transformers' own model."""

import pytest
import torch
from lets.flops import flop_formulas
from lets.mobilebert import MOBILEBERTS, MobileBertShape
from torch.utils.flop_counter import FlopCounterMode
from transformers import MobileBertConfig, MobileBertModel

TINY = {
    "num_layers": 2, "hidden_size": 12, "bottleneck": 8, "intermediate_size": 20,
    "embedding_size": 6, "vocab_size": 30, "max_positions": 16,
}  # fmt: skip


def config_of(shape):
    return MobileBertConfig(
        num_hidden_layers=shape.num_layers,
        hidden_size=shape.hidden_size,
        true_hidden_size=shape.bottleneck,
        intra_bottleneck_size=shape.bottleneck,
        intermediate_size=shape.intermediate_size,
        num_feedforward_networks=shape.feed_forwards,
        use_bottleneck_attention=not shape.shared_bottleneck,
        key_query_shared_bottleneck=shape.shared_bottleneck,
        embedding_size=shape.embedding_size,
        vocab_size=shape.vocab_size,
        max_position_embeddings=shape.max_positions,
        num_attention_heads=4,
    )


@pytest.mark.parametrize("name", MOBILEBERTS)
def test_parameters(name):
    shape = MOBILEBERTS[name]
    with torch.device("meta"):
        model = MobileBertModel(config_of(shape), add_pooling_layer=False)
    assert shape.num_parameters == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("shared", [True, False])
def test_flops_are_counted(shared):
    shape = MobileBertShape("tiny", shared_bottleneck=shared, feed_forwards=3, **TINY)
    model = MobileBertModel(config_of(shape), add_pooling_layer=False).eval()
    assert shape.num_parameters == sum(p.numel() for p in model.parameters())
    with FlopCounterMode(display=False, custom_mapping=flop_formulas()) as counter:
        model(torch.arange(7)[None])
    assert counter.get_total_flops() == shape.flops(7)


def test_sizes_of_the_paper():
    """25.3 M parameters with the pooler and 5.7 GFLOP as printed; 15.1 M and 3.1 GFLOP."""
    base, tiny = MOBILEBERTS["mobilebert"], MOBILEBERTS["mobilebert-tiny"]
    assert base.num_parameters == pytest.approx(25.3e6, rel=0.03)
    assert tiny.num_parameters == pytest.approx(15.1e6, rel=0.03)
    assert base.flops(128) == pytest.approx(5.7e9, rel=0.06)
    assert tiny.flops(128) == pytest.approx(3.1e9, rel=0.02)

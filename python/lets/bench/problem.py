"""What is benchmarked: encoders, policies and packs from a seed, no weights on disk needed."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lets.delta import SparseDelta, matrix_shapes
from lets.encoder import Encoder
from lets.errors import LetsError
from lets.heads import LayerwiseHead
from lets.policy import Policy
from lets.quiet import quiet_transformers
from lets.shape import PRESETS, EncoderShape
from lets.task import Task
from lets.task_layer import VECTOR_DELTAS
from lets.tokens import TokenBatch
from lets.weights import LayerWeights
from lets_ext import DeltaLayout

SPREAD = 0.02  # of random weights, as BERT is initialised
LABELS = ("no", "yes")
_HEAD_SCALE = 8  # logits of order 1, as a trained head's; a new head's hardly depend on the text


def encoder_config(spec: str) -> Any:
    """The transformers configuration of a built-in shape or of a model folder."""
    from transformers import AutoConfig

    EncoderShape.from_name(spec)  # raises with the list of names
    if spec in PRESETS:
        return AutoConfig.for_model(**PRESETS[spec])
    return AutoConfig.from_pretrained(spec, trust_remote_code=False)


def bench_encoder(
    spec: str, seed: int, dtype: torch.dtype = torch.float32, device: str = "cpu"
) -> Encoder:
    """A built-in shape with seeded random weights, or the encoder of a folder."""
    if spec not in PRESETS:
        EncoderShape.from_name(spec)
        return Encoder.from_pretrained(spec, dtype=dtype, device=device)
    from transformers import AutoModel

    model = _seeded(lambda: AutoModel.from_config(encoder_config(spec)), seed)
    return Encoder(model, None, spec, dtype=dtype, device=device)


def dense_classifier(
    spec: str, seed: int, dtype: torch.dtype = torch.float32, device: str = "cpu"
) -> nn.Module:
    """A whole fine-tuned model of the same shape; its weights are random, its cost is not."""
    from transformers import AutoModelForSequenceClassification

    config = encoder_config(spec)
    config.num_labels = len(LABELS)
    model: Any = _seeded(lambda: AutoModelForSequenceClassification.from_config(config), seed)
    with torch.no_grad():
        for parameter in model.classifier.parameters():
            parameter.mul_(_HEAD_SCALE)
    return model.to(device=device, dtype=dtype).eval().requires_grad_(False)


def _seeded(build: Any, seed: int) -> nn.Module:
    """Random weights, and vectors that are neither 0 nor 1: so a forgotten one changes answers."""
    with torch.random.fork_rng(devices=[]), quiet_transformers(), torch.no_grad():
        torch.manual_seed(seed)
        model: nn.Module = build()
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(SPREAD * torch.randn(parameter.shape))
    return model


def random_task(
    encoder: Encoder, policy: Policy, density: float, seed: int, name: str = "task"
) -> Task:
    """A pack as training leaves it: deltas of a density at random places, vectors, a head."""
    random = torch.Generator().manual_seed(seed)
    deltas, vectors = {}, {}
    for j in policy.live_layers:
        weights = encoder.layers[j]
        deltas[j] = {
            matrix: _random_delta(shape, density, random)
            for matrix, shape in matrix_shapes(weights).items()
        }
        vectors[j] = {name: _random_vector(weights, name, random) for name in VECTOR_DELTAS}
    shape = encoder.shape
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        head = LayerwiseHead(shape.num_layers, shape.hidden_size, len(LABELS)).eval()
        head.classifier.weight.mul_(_HEAD_SCALE)
    return Task(
        name, policy, deltas, vectors, head, LABELS, "classification", "accuracy",
        encoder.max_length,
    )  # fmt: skip


def _random_delta(shape: tuple[int, int], density: float, random: torch.Generator) -> SparseDelta:
    total = shape[0] * shape[1]
    draws = math.ceil(-total * math.log1p(-density))  # so many leave `density` of distinct places
    places = torch.randint(total, (draws,), generator=random).unique()
    rows = torch.bincount(places // shape[1], minlength=shape[0])
    crow = torch.cat([rows.new_zeros(1), rows.cumsum(0)]).int()
    layout = DeltaLayout.from_csr(crow, (places % shape[1]).int(), shape[1])
    return SparseDelta(layout, SPREAD * torch.randn(layout.nnz, generator=random))


def _random_vector(weights: LayerWeights, name: str, random: torch.Generator) -> Tensor:
    frozen = name.removesuffix("_delta")
    like = getattr(weights, "out_bias" if frozen in ("query_bias", "value_bias") else frozen)
    return SPREAD * torch.randn(like.shape, generator=random)


def random_batch(encoder: Encoder, batch: int, seq_len: int) -> TokenBatch:
    """Texts without padding. [B, S]"""
    return random_tokens(encoder.vocab_size, batch, seq_len).to(encoder.device)


def random_tokens(vocab_size: int, batch: int, seq_len: int) -> TokenBatch:
    """The same at every call. [B, S]"""
    random = torch.Generator().manual_seed(1000 * batch + seq_len)
    first = min(1000, vocab_size // 2)  # BERT's vocabularies begin with unused entries
    ids = torch.randint(first, vocab_size, (batch, seq_len), generator=random)
    return TokenBatch(ids, torch.ones_like(ids), torch.zeros_like(ids))


def load_packs(packs: list[str], encoder: Encoder) -> list[Task]:
    """Real packs instead of random ones; they need the encoder that they were trained on."""
    from lets.pack import load_pack

    if encoder.tokenizer is None:
        raise LetsError(
            f"bench: packs need the encoder that they were trained on, got the built-in shape "
            f"{encoder.source}; give its folder with --encoder"
        )
    return [load_pack(Path(pack), encoder) for pack in packs]

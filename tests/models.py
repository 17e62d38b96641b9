"""Tiny random encoders with a tokenizer of their own, and random tasks on them."""

import functools
import tempfile
from pathlib import Path

import torch
from lets.encoder import Encoder
from lets.heads import LayerwiseHead, PoolerHead
from lets.policy import Policy
from lets.task import Task
from lets.task_model import TaskModel
from transformers import (
    BertConfig,
    BertModel,
    BertTokenizerFast,
    MPNetConfig,
    MPNetModel,
    PreTrainedModel,
)

from tests.factories import generator

WORDS = [
    *("a", "the", "small", "large", "red", "blue", "house", "tree", "runs"),
    *("sleeps", "not", "very", "old", "new", "one", "two", "river"),
]
POLICY = Policy("ppf", "pff")  # layer 0 bypassed, 1 p-all, 2 f-cls
VOCAB = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]


def make_tokenizer(folder: Path | None = None) -> BertTokenizerFast:
    """WordPiece tokenizer over a handful of words."""
    with tempfile.TemporaryDirectory() as temporary:
        file = Path(folder or temporary) / "vocab.txt"
        file.write_text("\n".join(VOCAB) + "\n", encoding="utf-8")
        return BertTokenizerFast(str(file))


def make_bert(layers=3, hidden=16, heads=2, intermediate=24, positions=48, seed=0) -> BertModel:
    """Random BERT whose LayerNorms and biases are no identities either."""
    return _randomised(BertModel, BertConfig(
        vocab_size=len(VOCAB),
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=intermediate,
        max_position_embeddings=positions,
    ), seed)  # fmt: skip


def make_mpnet(layers=3, seed=0) -> MPNetModel:
    """Random MPNet: relative positions shift the attention scores by 3 or so."""
    model = _randomised(MPNetModel, MPNetConfig(
        vocab_size=len(VOCAB),
        hidden_size=16,
        num_hidden_layers=layers,
        num_attention_heads=2,
        intermediate_size=24,
        max_position_embeddings=50,
    ), seed)  # fmt: skip
    with torch.no_grad():
        model.encoder.relative_attention_bias.weight.mul_(10)
    return model


def _randomised(model_class: type[PreTrainedModel], config, seed: int) -> PreTrainedModel:
    torch.manual_seed(seed)
    model = model_class(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            spread = 0.3 if parameter.dim() > 1 else 0.1
            parameter.add_(spread * torch.randn(parameter.shape, generator=generator(seed)))
    return model


@functools.lru_cache
def make_encoder(layers=3, **sizes) -> Encoder:
    """Encoder over `make_bert`; shared between tests, so nothing may change it."""
    return Encoder.from_model(make_bert(layers, **sizes), make_tokenizer(), "tiny-bert")


@functools.lru_cache
def make_mpnet_encoder(layers=3) -> Encoder:
    return Encoder.from_model(make_mpnet(layers), make_tokenizer(), "tiny-mpnet")


def save_bert(folder: Path, **sizes) -> Path:
    """A model folder as transformers writes it."""
    make_bert(**sizes).save_pretrained(folder)
    make_tokenizer(folder).save_pretrained(folder)
    return folder


def make_task(encoder, policy: Policy, seed=0, density=0.1, name="task", labels=("no", "yes"),
              max_length=24, is_pair=False, scale=0.3, variant="pc") -> Task:  # fmt: skip
    """Random deltas, biases, LayerNorms and head. No labels: regression.

    Variant c has whole matrices, variant p the policy of one chain.
    """
    random, shape = generator(seed), encoder.shape
    if variant == "p":
        policy = Policy.chain(shape.num_layers)
    masks = (
        None
        if variant == "c"
        else {
            j: {
                matrix: torch.rand(weight.shape, generator=random) < density
                for matrix in ("qkv", "out", "up", "down")
                for weight in [getattr(encoder.layers[j], f"{matrix}_weight")]
            }
            for j in policy.live_layers
        }
    )
    torch.manual_seed(seed)
    if variant == "p":
        head = PoolerHead(shape.hidden_size, len(labels) or 1)
    else:
        head = LayerwiseHead(shape.num_layers, shape.hidden_size, len(labels) or 1)
    model = TaskModel(encoder, policy, masks, head)
    with torch.no_grad():
        for layer in model.layers.values():
            for parameter in layer.parameters():
                parameter.add_(scale * torch.randn(parameter.shape, generator=random))
        for parameter in head.parameters():  # a new head's logits hardly depend on the text
            parameter.add_(torch.randn(parameter.shape, generator=random))
    return Task.from_model(
        model,
        name,
        labels=tuple(labels),
        problem_type="classification" if labels else "regression",
        metric="accuracy" if labels else "spearman",
        max_length=max_length,
        is_pair=is_pair,
    )


def make_texts(count: int, seed=0, shortest=1, longest=12) -> list[str]:
    """Texts of mixed lengths."""
    random = generator(seed)

    def draw(low, high):
        return int(torch.randint(low, high, (), generator=random))

    return [
        " ".join(WORDS[draw(0, len(WORDS))] for _ in range(draw(shortest, longest + 1)))
        for _ in range(count)
    ]


def logits_of(task, encoder):
    """Of a few texts."""
    with torch.no_grad():
        return task.to_model(encoder)(encoder.tokenize(make_texts(5), task.max_length))

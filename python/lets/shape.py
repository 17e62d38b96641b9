"""EncoderShape: the sizes of an encoder, known without its weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lets.errors import LetsError


@dataclass(frozen=True)
class EncoderShape:
    """Sizes of a BERT-shaped encoder.

    Args:
        num_parameters: all of them, the embeddings included, the pooler not.
    """

    name: str
    num_layers: int
    hidden_size: int
    num_heads: int
    intermediate_size: int
    num_parameters: int

    def __post_init__(self) -> None:
        for field in (
            "num_layers", "hidden_size", "num_heads", "intermediate_size", "num_parameters"
        ):  # fmt: skip
            value = getattr(self, field)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise LetsError(f"{self.name}: {field} must be a positive integer, got {value!r}")
        if self.hidden_size % self.num_heads:
            raise LetsError(
                f"{self.name}: hidden_size must be a multiple of num_heads, "
                f"got {self.hidden_size} and {self.num_heads}"
            )

    @classmethod
    def from_config(cls, config: Mapping[str, Any], name: str) -> EncoderShape:
        """Sizes from the fields of a transformers configuration (`config.to_dict()`)."""
        model_type = config.get("model_type")
        embedding_parameters = _EMBEDDINGS.get(str(model_type))
        if embedding_parameters is None:
            raise LetsError(
                f"{name}: model_type must be one of {', '.join(sorted(_EMBEDDINGS))}, "
                f"got {model_type!r}"
            )
        names = _DISTILBERT if model_type == "distilbert" else {}
        sizes = {field: _size(config, names.get(field, field), name) for field in _SIZES}
        hidden, intermediate = sizes["hidden_size"], sizes["intermediate_size"]
        return cls(
            name,
            sizes["num_hidden_layers"],
            hidden,
            sizes["num_attention_heads"],
            intermediate,
            embedding_parameters(config, sizes, name)
            + sizes["num_hidden_layers"] * layer_parameters(hidden, intermediate),
        )

    @classmethod
    def from_folder(cls, path: str | Path) -> EncoderShape:
        """Sizes from a model folder's config.json; its weights are not opened."""
        file = Path(path) / "config.json"
        try:
            config = json.loads(file.read_text(encoding="utf-8"))
        except OSError as error:
            raise LetsError(f"encoder: cannot read {file}: {error.strerror or error}") from error
        except (ValueError, RecursionError) as error:
            raise LetsError(f"encoder: {file} is not JSON: {error}") from error
        if not isinstance(config, Mapping):
            raise LetsError(f"encoder: {file} must hold a JSON object, got {type(config).__name__}")
        return cls.from_config(config, str(file))

    @classmethod
    def from_name(cls, name: str) -> EncoderShape:
        """A built-in shape by name, or the shape of a local model folder."""
        if name in PRESETS:
            return cls.from_config(PRESETS[name], name)
        if Path(name).is_dir():
            return cls.from_folder(name)
        raise LetsError(
            f"encoder: {name} is neither a built-in shape ({', '.join(PRESETS)}) "
            "nor a folder with a config.json"
        )


# In place of a head's widths: the ordinary classifier, which has neither projection nor LSTM.
POOLER_WIDTHS = (0, 0)


def head_sizes(hidden: int) -> tuple[int, int]:
    """Default widths of a task's head: projection H/2, LSTM H/6 to the nearest multiple of 8."""
    return max(1, hidden // 2), max(8, 8 * round(hidden / 48))


def layer_parameters(hidden: int, intermediate: int) -> int:
    """One post-LN layer: four projections, two feed-forward matrices, two LayerNorms, biases."""
    attention = 4 * (hidden * hidden + hidden)
    feed_forward = 2 * hidden * intermediate + intermediate + hidden
    return attention + feed_forward + 4 * hidden


def _preset(layers: int, hidden: int, heads: int, intermediate: int) -> dict[str, Any]:
    return {
        "model_type": "bert",
        "vocab_size": 30522,
        "max_position_embeddings": 512,
        "type_vocab_size": 2,
        "num_hidden_layers": layers,
        "hidden_size": hidden,
        "num_attention_heads": heads,
        "intermediate_size": intermediate,
    }


def _distilbert_preset(layers: int) -> dict[str, Any]:
    return {
        "model_type": "distilbert",
        "vocab_size": 30522,
        "max_position_embeddings": 512,
        "n_layers": layers,
        "dim": 768,
        "n_heads": 12,
        "hidden_dim": 3072,
    }


# Fields of transformers' configurations.
PRESETS: dict[str, dict[str, Any]] = {
    "bert-base": _preset(12, 768, 12, 3072),
    "bert-large": _preset(24, 1024, 16, 4096),
    "minilm-l6": _preset(6, 384, 12, 1536),
    "distilbert": _distilbert_preset(6),
    "distilbert-base": _distilbert_preset(6),
    "distilbert-4": _distilbert_preset(4),
    "tinybert-4": _preset(4, 312, 12, 1200),
    "tinybert-6": _preset(6, 768, 12, 3072),
    "mpnet-base": _preset(12, 768, 12, 3072)
    | {"model_type": "mpnet", "vocab_size": 30527, "max_position_embeddings": 514},
}

_SIZES = ("num_hidden_layers", "hidden_size", "num_attention_heads", "intermediate_size")
_DISTILBERT = {
    "num_hidden_layers": "n_layers",
    "hidden_size": "dim",
    "num_attention_heads": "n_heads",
    "intermediate_size": "hidden_dim",
}


def _size(config: Mapping[str, Any], field: str, name: str, default: int | None = None) -> int:
    value = config.get(field, default)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise LetsError(f"{name}: {field} must be a positive integer, got {value!r}")
    return value


def _bert(config: Mapping[str, Any], sizes: Mapping[str, int], name: str) -> int:
    fields = ("vocab_size", "max_position_embeddings", "type_vocab_size")
    rows = sum(_size(config, field, name) for field in fields)
    return (rows + 2) * sizes["hidden_size"]  # + 2: weight and bias of the LayerNorm


def _electra(config: Mapping[str, Any], sizes: Mapping[str, int], name: str) -> int:
    hidden = sizes["hidden_size"]
    width = _size(config, "embedding_size", name, default=hidden)
    projection = width * hidden + hidden if width != hidden else 0
    return _bert(config, {"hidden_size": width}, name) + projection


def _distilbert(config: Mapping[str, Any], sizes: Mapping[str, int], name: str) -> int:
    rows = sum(_size(config, field, name) for field in ("vocab_size", "max_position_embeddings"))
    return (rows + 2) * sizes["hidden_size"]


def _mpnet(config: Mapping[str, Any], sizes: Mapping[str, int], name: str) -> int:
    buckets = _size(config, "relative_attention_num_buckets", name, default=32)
    return _distilbert(config, sizes, name) + buckets * sizes["num_attention_heads"]


_EMBEDDINGS = {
    "bert": _bert,
    "roberta": _bert,
    "xlm-roberta": _bert,
    "electra": _electra,
    "distilbert": _distilbert,
    "mpnet": _mpnet,
}

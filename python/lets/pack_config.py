"""lets_config.json of a task pack: what it says, and the checks of what others wrote."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lets.errors import LetsError
from lets.files import sha256_of_json
from lets.heads import ACTIVATIONS, LayerwiseHead, PoolerHead
from lets.policy import Policy
from lets.safe_reader import DTYPES, TensorInfo
from lets.scores import PROBLEM_TYPES, check_metric
from lets.task_data import check_labels

FORMAT = "lets-task-pack"
SCHEMA_VERSION = 1
_SHA256 = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
MAX_SAMPLES, MAX_SAMPLE_CHARS = 100, 10_000  # what a stranger's pack may ask `lets validate` to do
_MAX_SIZE = 1 << 16  # of any width: columns are uint16
_HEADS = {
    LayerwiseHead.kind: ("num_layers", "hidden", "num_labels", "projection", "lstm", "dropout"),
    PoolerHead.kind: ("hidden", "num_labels", "dropout", "activation"),
}
_DELTAS = ("sparse", "dense")
_SIZES = ("num_layers", "hidden_size", "num_heads", "intermediate_size")


@dataclass(frozen=True)
class Sample:
    """An input and the logits that the pack gave to it when it was written."""

    text: str
    text_pair: str | None
    logits: tuple[float, ...]

    @property
    def input(self) -> str | tuple[str, str]:
        return self.text if self.text_pair is None else (self.text, self.text_pair)


@dataclass(frozen=True)
class PackConfig:
    """A checked lets_config.json.

    Args:
        encoder: source, revision, fingerprints of weights and tokenizer, and sizes of the encoder
            it was trained on.
        policy: Of one chain where the head is the pooler (LeTS-(p)); the file then names none.
        head: `type`, a key of `lets.heads.HEADS`, and its arguments.
        tensors: dtype, shape and sha256 of every tensor of lets_delta.safetensors.
        results: Scores of the training run, by name; for people.
        dense: Whether matrices are stored in full (LeTS-(c)), not as sparse deltas.
    """

    name: str
    encoder: dict[str, Any]
    policy: Policy
    head: dict[str, Any]
    labels: tuple[str, ...]
    problem_type: str
    metric: str
    max_length: int
    is_pair: bool
    tensors: dict[str, tuple[TensorInfo, str]]
    samples: tuple[Sample, ...]
    results: dict[str, float]
    dense: bool = False

    def to_dict(self) -> dict[str, Any]:
        """JSON, with its own checksum."""
        samples = [
            {"text": s.text, "text_pair": s.text_pair, "logits": list(s.logits)}
            for s in self.samples
        ]
        tensors = {
            name: {"dtype": info.dtype, "shape": list(info.shape), "sha256": checksum}
            for name, (info, checksum) in self.tensors.items()
        }
        data = {
            "format": FORMAT,
            "schema_version": SCHEMA_VERSION,
            "name": self.name,
            "encoder": self.encoder,
            "policy": None if self.head["type"] == PoolerHead.kind else self.policy.to_dict(),
            "head": self.head,
            "labels": list(self.labels),
            "problem_type": self.problem_type,
            "metric": self.metric,
            "max_length": self.max_length,
            "is_pair": self.is_pair,
            "delta": _DELTAS[self.dense],
            "results": self.results,
            "samples": samples,
            "tensors": tensors,
        }
        return {**data, "checksum": sha256_of_json(data)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> PackConfig:
        """Check everything. Raises LetsError, naming the field."""
        if data.get("format") != FORMAT:
            raise LetsError(f"format must be {FORMAT!r}, got {data.get('format')!r}: no task pack")
        if data.get("schema_version") != SCHEMA_VERSION:
            raise LetsError(
                f"schema_version must be {SCHEMA_VERSION}, got {data.get('schema_version')!r}; "
                "use the version of lets that wrote the pack"
            )
        rest = {key: value for key, value in data.items() if key != "checksum"}
        if data.get("checksum") != sha256_of_json(rest):
            raise LetsError("checksum differs from the contents; the file was changed or damaged")
        fields = _Fields(data, "")
        fields.only(
            "format", "schema_version", "name", "encoder", "policy", "head", "labels",
            "problem_type", "metric", "max_length", "is_pair", "delta", "results", "samples",
            "tensors", "checksum",
        )  # fmt: skip
        if data["delta"] not in _DELTAS:
            raise LetsError(f"delta must be one of {', '.join(_DELTAS)}, got {data['delta']!r}")
        name = check_task_name(data["name"])
        encoder, head = _encoder(data["encoder"]), _head(data["head"])
        policy = _policy(data["policy"], encoder, head["type"])
        labels = tuple(fields.get("labels", list))
        problem_type = fields.get("problem_type", str)
        if problem_type not in PROBLEM_TYPES:
            raise LetsError(
                f"problem_type must be one of {', '.join(PROBLEM_TYPES)}, got {problem_type!r}"
            )
        check_labels(name, labels, problem_type)
        check_metric(fields.get("metric", str), problem_type)
        wanted = {
            "num_layers": encoder["num_layers"],
            "hidden": encoder["hidden_size"],
            "num_labels": len(labels) or 1,
        }
        for key, value in wanted.items():
            if head.get(key, value) != value:
                raise LetsError(f"head.{key} must be {value}, got {head[key]}")
        is_pair = fields.get("is_pair", bool)
        samples = tuple(
            _sample(item, f"samples[{i}]", is_pair, head["num_labels"])
            for i, item in enumerate(fields.get("samples", list))
        )
        check_samples([sample.input for sample in samples])
        results = fields.get("results", dict)
        for key, value in results.items():
            _number(value, f"results.{key}")
        return cls(
            name, encoder, policy, head, labels, problem_type, data["metric"],
            fields.size("max_length", minimum=3), is_pair,
            {key: _tensor(entry, f"tensors.{key}") for key, entry in
             fields.get("tensors", dict).items()},
            samples, results, data["delta"] == "dense",
        )  # fmt: skip


def check_task_name(name: Any) -> str:
    """The name, if it can be a folder's and a key's."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise LetsError(
            "name must be 1 to 100 letters, digits, '.', '_' or '-', and start with a letter or "
            f"digit, got {name!r}"
        )
    return name


def check_samples(inputs: Sequence[str | tuple[str, str]]) -> None:
    """Raise unless a pack may hold these inputs: few and short enough to compute at once."""
    if len(inputs) > MAX_SAMPLES:
        raise LetsError(f"samples must be at most {MAX_SAMPLES}, got {len(inputs)}")
    for i, item in enumerate(inputs):
        length = len(item) if isinstance(item, str) else sum(map(len, item))
        if length > MAX_SAMPLE_CHARS:
            raise LetsError(
                f"samples[{i}] must have at most {MAX_SAMPLE_CHARS} characters, got {length}"
            )


class _Fields:
    """Typed access to a JSON object; errors name the field."""

    def __init__(self, data: Any, prefix: str) -> None:
        if not isinstance(data, Mapping):
            raise LetsError(f"{prefix or 'config'} must be an object, got {type(data).__name__}")
        self.data, self.prefix = data, f"{prefix}." if prefix else ""

    def only(self, *names: str) -> None:
        if missing := [name for name in names if name not in self.data]:
            raise LetsError(f"{self.prefix}{missing[0]} is missing")
        if unknown := sorted(set(self.data) - set(names)):
            raise LetsError(f"{self.prefix}{unknown[0]} is unknown")

    def get(self, name: str, kind: type) -> Any:
        value = self.data[name]
        if type(value) is not kind:
            raise LetsError(
                f"{self.prefix}{name} must be {kind.__name__}, got {type(value).__name__}"
            )
        return value

    def size(self, name: str, minimum: int = 1) -> int:
        value = self.get(name, int)
        if not minimum <= value <= _MAX_SIZE:
            raise LetsError(
                f"{self.prefix}{name} must be between {minimum} and {_MAX_SIZE}, got {value}"
            )
        return value


def _encoder(data: Any) -> dict[str, Any]:
    fields = _Fields(data, "encoder")
    fields.only("source", "revision", "fingerprint", "tokenizer", *_SIZES)
    fields.get("source", str)
    if data["revision"] is not None:
        fields.get("revision", str)
    for name in ("fingerprint", "tokenizer"):
        if not _SHA256.fullmatch(fields.get(name, str)):
            raise LetsError(f"encoder.{name} must be a sha256, got {data[name]!r}")
    for name in _SIZES:
        fields.size(name)
    return dict(data)


def _policy(data: Any, encoder: Mapping[str, Any], head: str) -> Policy:
    """The policy, which a pack with the pooler's head does not name: it is one chain."""
    if (data is None) != (head == PoolerHead.kind):
        rule = "null" if data is not None else "an object"
        raise LetsError(f"policy must be {rule} with a head of type {head!r}")
    if data is None:
        return Policy.chain(encoder["num_layers"])
    return Policy.from_dict(data).check_num_layers(encoder["num_layers"], str(encoder["source"]))


def _head(data: Any) -> dict[str, Any]:
    fields = _Fields(data, "head")
    kind = data.get("type")
    if not isinstance(kind, str) or kind not in _HEADS:
        raise LetsError(f"head.type must be one of {', '.join(_HEADS)}, got {kind!r}")
    fields.only("type", *_HEADS[kind])
    for name in _HEADS[kind]:
        if name not in ("dropout", "activation"):
            fields.size(name)
    if data.get("activation", "tanh") not in tuple(ACTIVATIONS):
        raise LetsError(
            f"head.activation must be one of {', '.join(ACTIVATIONS)}, got {data['activation']!r}"
        )
    if not 0.0 <= _number(data["dropout"], "head.dropout") < 1.0:
        raise LetsError(f"head.dropout must be in [0, 1), got {data['dropout']}")
    return dict(data)


def _sample(data: Any, where: str, is_pair: bool, num_labels: int) -> Sample:
    fields = _Fields(data, where)
    fields.only("text", "text_pair", "logits")
    text = fields.get("text", str)
    pair = fields.get("text_pair", str) if is_pair else fields.get("text_pair", type(None))
    logits = tuple(_number(v, f"{where}.logits") for v in fields.get("logits", list))
    if not text.strip() or (is_pair and not pair.strip()) or len(logits) != num_labels:
        raise LetsError(f"{where} must have texts that are not empty, and {num_labels} logits")
    return Sample(text, pair, logits)


def _tensor(data: Any, where: str) -> tuple[TensorInfo, str]:
    fields = _Fields(data, where)
    fields.only("dtype", "shape", "sha256")
    dtype, shape = fields.get("dtype", str), fields.get("shape", list)
    if dtype not in DTYPES:
        raise LetsError(f"{where}.dtype must be one of {', '.join(DTYPES)}, got {dtype!r}")
    if len(shape) > 2 or any(type(n) is not int or not 0 <= n < 1 << 31 for n in shape):
        raise LetsError(f"{where}.shape must be at most two sizes, got {shape}")
    if not _SHA256.fullmatch(fields.get("sha256", str)):
        raise LetsError(f"{where}.sha256 must be 64 hexadecimal digits")
    return TensorInfo(dtype, tuple(shape)), data["sha256"]


def _number(value: Any, where: str) -> float:
    # An int as long as it likes is JSON too, but no float.
    if type(value) not in (int, float) or not abs(value) <= sys.float_info.max:
        raise LetsError(f"{where} must be a finite number, got {value!s:.40}")
    return float(value)

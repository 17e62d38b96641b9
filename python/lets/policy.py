"""Policy: one task's searched architecture, two letters per layer (METHOD sections 3, 4 and 12)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from pathlib import Path
from typing import Any

from lets.errors import LetsError
from lets.files import MAX_JSON_BYTES, parse_json, read_bytes

FIG2B = ("pppppfppfpff", "pppfffpfffff")
_NUMBERED = re.compile(r"(g|depth|stream)-(\d{1,4})")
_PRESETS = "fig2b, g-<number of groups>, depth-<layers> or stream-<layers>"


class LayerCase(str, Enum):
    """What a task computes in a layer: its source and the output rows that are read."""

    BYPASS = "bypass"
    P_ALL = "p-all"
    P_CLS = "p-cls"
    F_ALL = "f-all"
    F_CLS = "f-cls"
    S_CLS = "s-cls"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class Policy:
    """Selectors of one task; `p` is the frozen encoder's activation, `f` the task's own.

    Args:
        input: letter j chooses the input of layer j, x^p_{j-1} or x^f_{j-1}; letter 0 is `p`.
            Beyond the paper `s`, the [CLS] stream: keys and values are those of x^p_{j-1}, the
            [CLS] row is that of x^f_{j-1}. Such a layer has no other row: no `f` right above it.
        pool: letter j chooses the [CLS] row that layer j hands to the head, of x^p_j or x^f_j.
    """

    input: str
    pool: str

    def __post_init__(self) -> None:
        for name in ("input", "pool"):
            letters = getattr(self, name)
            if not isinstance(letters, str):
                raise LetsError(
                    f"policy: {name} must be a string of letters p and f, "
                    f"got {type(letters).__name__}"
                )
            wrong = re.search("[^pfs]" if name == "input" else "[^pf]", letters)
            if wrong:
                known = "p, f and s" if name == "input" else "p and f"
                raise LetsError(
                    f"policy: {name} must hold only the letters {known}, "
                    f"got {wrong.group()!r} at layer {wrong.start()} of {letters!r}"
                )
            if not letters:
                raise LetsError(f"policy: {name} must have one letter per layer, got none")
        if len(self.input) != len(self.pool):
            raise LetsError(
                "policy: input and pool must be equally long (one letter per layer), "
                f"got {len(self.input)} and {len(self.pool)} letters"
            )
        if self.input[0] != "p":
            raise LetsError(
                "policy: input must start with p (layer 0 has only the shared embeddings to read), "
                f"got {self.input!r}"
            )
        if "sf" in self.input:
            raise LetsError(
                "policy: input must not have f right above s (a layer with input s has its [CLS] "
                f"row alone), got {self.input!r}"
            )

    @property
    def num_layers(self) -> int:
        return len(self.input)

    @cached_property
    def _liveness(self) -> tuple[tuple[bool, ...], tuple[bool, ...]]:
        live, feeds = [False] * self.num_layers, [False] * self.num_layers
        above = "p"  # what the live layer above reads
        for j in reversed(range(self.num_layers)):
            feeds[j] = above == "f"
            live[j] = above != "p" or self.pool[j] == "f"
            above = self.input[j] if live[j] else "p"
        return tuple(live), tuple(feeds)

    @property
    def live(self) -> tuple[bool, ...]:
        """Per layer: does anything read the task's own output of it?"""
        return self._liveness[0]

    @property
    def feeds(self) -> tuple[bool, ...]:
        """Per layer: does a live layer above read all rows of its output?"""
        return self._liveness[1]

    @cached_property
    def cases(self) -> tuple[LayerCase, ...]:
        return tuple(
            LayerCase(f"{source}-{'all' if feeds else 'cls'}") if live else LayerCase.BYPASS
            for source, live, feeds in zip(self.input, self.live, self.feeds, strict=True)
        )

    @cached_property
    def chains(self) -> tuple[tuple[int, ...], ...]:
        """Runs of live layers linked by f or s, bottom to top; chains do not read each other."""
        chains: list[list[int]] = []
        for j in self.live_layers:
            if self.input[j] == "p":
                chains.append([])
            chains[-1].append(j)
        return tuple(map(tuple, chains))

    @property
    def live_layers(self) -> tuple[int, ...]:
        return tuple(j for j, live in enumerate(self.live) if live)

    @cached_property
    def frozen_hidden(self) -> frozenset[int]:
        """The layers j whose frozen output x^p_j somebody reads; -1 is the embedding output."""
        pooled = {j for j, letter in enumerate(self.pool) if letter == "p"}
        return frozenset(pooled | {j - 1 for j in self.frozen_qkv})

    @cached_property
    def frozen_qkv(self) -> frozenset[int]:
        """The layers whose cached Q, K, V of the frozen encoder are read: live, input p or s.

        Of those with input s the task computes the query itself.
        """
        return frozenset(j for j in self.live_layers if self.input[j] != "f")

    def streamed(self) -> Policy:
        """The same with the [CLS] stream wherever it is almost free: s for p in layers that have
        their [CLS] row alone, above a live one and below no f."""
        free = [
            j > 0
            and case is LayerCase.P_CLS
            and self.live[j - 1]
            and self.input[j + 1 :][:1] != "f"
            for j, case in enumerate(self.cases)
        ]
        letters = ("s" if f else letter for f, letter in zip(free, self.input, strict=True))
        return Policy("".join(letters), self.pool)

    def check_num_layers(self, num_layers: int, encoder: str) -> Policy:
        """Return the policy itself if it fits an encoder of `num_layers` layers."""
        if self.num_layers != num_layers:
            raise LetsError(
                f"policy: input and pool must have {num_layers} letters, "
                f"one per layer of {encoder}, got {self.num_layers}"
            )
        return self

    def to_dict(self) -> dict[str, str]:
        return {"input": self.input, "pool": self.pool}

    @classmethod
    def from_dict(cls, data: Any) -> Policy:
        if not isinstance(data, Mapping):
            raise LetsError(
                'policy: must be a JSON object {"input": "...", "pool": "..."}, '
                f"got {type(data).__name__}"
            )
        missing = [key for key in ("input", "pool") if key not in data]
        unknown = sorted(str(key) for key in data if key not in ("input", "pool"))
        if missing or unknown:
            found = [f"missing {key!r}" for key in missing] + [
                f"unknown {key!r}" for key in unknown
            ]
            raise LetsError(
                f"policy: must have the keys input and pool alone, got {', '.join(found)}"
            )
        return cls(data["input"], data["pool"])

    @classmethod
    def from_json(cls, path: str | Path) -> Policy:
        """Read a policy file; the error names the file."""
        text = read_bytes(Path(path), MAX_JSON_BYTES, follow_links=True)
        data = parse_json(text, f"policy: {path}")
        try:
            return cls.from_dict(data)
        except LetsError as error:
            raise LetsError(f"{path}: {error}") from None

    @classmethod
    def preset(cls, name: str, num_layers: int) -> Policy:
        """A built-in policy: `fig2b` (12 layers), `g-<g>` (g chains that hold all layers) or
        `depth-<d>` (the top d layers are one chain, each below stands alone on x^p) and
        `stream-<d>` (the same, where those below are a [CLS] stream)."""
        if name == "fig2b":
            return cls(*FIG2B).check_num_layers(num_layers, "the encoder (preset fig2b)")
        match = _NUMBERED.fullmatch(name)
        if match is None:
            raise LetsError(f"policy: preset must be {_PRESETS}, got {name!r}")
        number = int(match[2])
        starts = group_starts(num_layers, number) if match[1] == "g" else None
        if starts is None:
            if not 1 <= number <= num_layers:
                raise LetsError(f"policy: depth must be from 1 to {num_layers}, got {number}")
            starts = frozenset(range(num_layers - number + 1))
        letters = "".join("p" if j in starts else "f" for j in range(num_layers))
        policy = cls(letters, "f" * num_layers)
        return policy.streamed() if match[1] == "stream" else policy

    @classmethod
    def chain(cls, num_layers: int) -> Policy:
        """The ordinary architecture: every layer the task's own, on the one below (LeTS-(p))."""
        return cls.preset("g-1", num_layers)

    @classmethod
    def from_spec(cls, spec: str, num_layers: int, encoder: str = "the encoder") -> Policy:
        """A preset's name or the path of a JSON file, checked against the encoder's layers."""
        if spec == "fig2b" or _NUMBERED.fullmatch(spec):
            return cls.preset(spec, num_layers)
        if not Path(spec).exists():
            raise LetsError(f"policy: {spec} is neither a file nor a preset ({_PRESETS})")
        try:
            return cls.from_json(spec).check_num_layers(num_layers, encoder)
        except LetsError as error:
            text = str(error)
            raise LetsError(text if spec in text else f"{spec}: {text}") from None


def group_starts(num_layers: int, groups: int) -> frozenset[int]:
    """First layers of `groups` equal contiguous groups, whose input is p (METHOD section 3).

    Unequal groups are refused: the longest group decides the speed-up that a user asks for.
    """
    if groups < 1 or num_layers % groups:
        allowed = ", ".join(str(g) for g in range(1, num_layers + 1) if num_layers % g == 0)
        raise LetsError(
            f"policy: the number of groups must divide the {num_layers} layers ({allowed}), "
            f"got {groups}"
        )
    return frozenset(range(0, num_layers, num_layers // groups))

"""TokenBatch: texts as padded token ids, and the checks that keep [CLS] at row 0."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lets.errors import LetsError

Texts = Sequence[str] | Sequence[tuple[str, str]]


@dataclass(frozen=True)
class TokenBatch:
    """Right-padded token ids. All int64 [B, S].

    Args:
        attention_mask: 1 for tokens, 0 for padding.
        token_type_ids: 0 where an encoder has no segments.
    """

    input_ids: Tensor
    attention_mask: Tensor
    token_type_ids: Tensor

    def __post_init__(self) -> None:
        shape = self.input_ids.shape
        for name in ("input_ids", "attention_mask", "token_type_ids"):
            tensor = getattr(self, name)
            if tensor.shape != shape or tensor.dim() != 2 or tensor.is_floating_point():
                raise LetsError(
                    f"token batch: {name} must be integers [B, S] = {list(shape)}, "
                    f"got {tensor.dtype} {list(tensor.shape)}"
                )
        mask = self.attention_mask
        if mask.numel() and (not bool(mask[:, 0].all()) or bool((mask.diff(dim=1) > 0).any())):
            raise LetsError(
                "token batch: attention_mask must be right-padded, because [CLS] is row 0; "
                "set the tokenizer's padding_side to 'right'"
            )

    @property
    def key_mask(self) -> Tensor | None:
        """True = attend; None when nothing is padded. bool [B, S]"""
        mask = self.attention_mask.bool()
        return None if bool(mask.all()) else mask

    def to(self, device: torch.device | str) -> TokenBatch:
        return TokenBatch(
            self.input_ids.to(device),
            self.attention_mask.to(device),
            self.token_type_ids.to(device),
        )


def check_texts(texts: Any, what: str = "texts") -> bool:
    """Whether they are pairs. Raises LetsError, naming the position, for what is no text."""
    if isinstance(texts, (str, bytes)) or not isinstance(texts, Sequence):
        raise LetsError(f"{what} must be a list of texts or of pairs, got {type(texts).__name__}")
    pairs = bool(texts) and not isinstance(texts[0], str)
    for position, item in enumerate(texts):
        parts = item if isinstance(item, (tuple, list)) else (item,)
        if not all(isinstance(part, str) for part in parts) or len(parts) not in (1, 2):
            raise LetsError(
                f"{what}[{position}] must be a text or a pair of texts, got {type(item).__name__}"
            )
        if (len(parts) == 2) != pairs or (pairs and isinstance(item, str)):
            raise LetsError(f"{what} must be all texts or all pairs, but [{position}] differs")
        if not all(part.strip() for part in parts):
            raise LetsError(f"{what}[{position}] must not be empty")
    return pairs


def tokenize(
    tokenizer: Any, texts: Texts, max_length: int, pad_to: int | None = None
) -> TokenBatch:
    """Token ids of texts or pairs, truncated to `max_length`, padded to the longest or `pad_to`."""
    if not len(texts):
        raise LetsError("texts must hold at least one text, got none")
    pairs = check_texts(texts)
    columns = tuple(map(list, zip(*texts))) if pairs else (list(texts),)
    encoded = tokenizer(
        *columns,
        truncation=True,
        max_length=pad_to or max_length,
        padding="max_length" if pad_to else True,
        return_attention_mask=True,
        return_tensors="pt",
    )
    input_ids = encoded["input_ids"]
    token_types = encoded.get("token_type_ids")
    return TokenBatch(
        input_ids,
        encoded["attention_mask"],
        torch.zeros_like(input_ids) if token_types is None else token_types,
    )

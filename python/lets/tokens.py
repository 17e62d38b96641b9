"""TokenBatch: texts as padded token ids, and the checks that keep [CLS] at row 0."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lets.errors import LetsError
from lets.files import sha256_of_json

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
        if not all(part.isascii() or _is_unicode(part) for part in parts):
            raise LetsError(f"{what}[{position}] must be valid Unicode, got a lone surrogate")
    return pairs


def _is_unicode(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


class Encoded(NamedTuple):
    """Token ids of one input, special tokens included."""

    input_ids: list[int]
    token_type_ids: list[int]


def encode(tokenizer: Any, texts: Texts, max_length: int) -> list[Encoded]:
    """Token ids of texts or pairs, truncated to `max_length`."""
    if not len(texts):
        raise LetsError("texts must hold at least one text, got none")
    pairs = check_texts(texts)
    columns = tuple(map(list, zip(*texts))) if pairs else (list(texts),)
    encoded = tokenizer(*columns, truncation=True, max_length=max_length)
    ids = encoded["input_ids"]
    types = encoded.get("token_type_ids") or [[0] * len(row) for row in ids]
    return [Encoded(*row) for row in zip(ids, types, strict=True)]


def collate(encoded: Sequence[Encoded], pad_token_id: int, pad_to: int | None = None) -> TokenBatch:
    """A batch, padded on the right to the longest input or to `pad_to`."""
    lengths = torch.tensor([len(row.input_ids) for row in encoded])
    longest = int(lengths.max())
    if pad_to is not None and pad_to < longest:
        raise LetsError(f"pad_to must be at least the longest input ({longest}), got {pad_to}")
    width = pad_to or longest

    def padded(rows: Iterable[list[int]], value: int) -> Tensor:
        return torch.tensor([row + [value] * (width - len(row)) for row in rows])

    return TokenBatch(
        padded((row.input_ids for row in encoded), pad_token_id),
        (torch.arange(width) < lengths[:, None]).long(),
        padded((row.token_type_ids for row in encoded), 0),
    )


def tokenize(
    tokenizer: Any, texts: Texts, max_length: int, pad_to: int | None = None
) -> TokenBatch:
    """Token ids of texts or pairs, truncated to `max_length`, padded to the longest or `pad_to`."""
    return collate(encode(tokenizer, texts, max_length), tokenizer.pad_token_id or 0, pad_to)


# Case, accents, punctuation, digits, scripts, spaces: where tokenizers of one vocabulary differ.
_PROBE = "Na\u00efve CAF\u00c9, don't! 12,345.6 x_y@z.org \u4f60\u597d  \U0001f642 state-of-the-art"


def tokenizer_fingerprint(tokenizer: Any) -> str:
    """sha256 over the vocabulary and what becomes of a probing text.

    Equal weights with another vocabulary answer wrongly and without an error: packs name both.
    """
    vocabulary = sorted((int(i), token) for token, i in tokenizer.get_vocab().items())
    return sha256_of_json([vocabulary, list(tokenizer(_PROBE, _PROBE)["input_ids"])])

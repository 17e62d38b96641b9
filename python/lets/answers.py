"""Answers of task packs to texts, as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lets.errors import LetsError


def answer(
    encoder: Any,
    packs: Sequence[str],
    texts: list[str] | list[tuple[str, str]],
    batch_size: int = 32,
) -> list[dict[str, Any]]:
    """Every pack's answer to every text, in one pass of the encoder per batch.

    Returns:
        Per text {"text", "answers": {task: {"label", "score"}}}.
    """
    from lets.run.engine import Engine

    if not texts:
        raise LetsError("predict: there must be at least one text, got none")
    engine = Engine.from_pretrained(encoder, list(packs))
    entries: list[dict[str, Any]] = []
    for start in range(0, len(texts), batch_size):
        chunk = texts[start : start + batch_size]
        outputs = engine(chunk)
        for i, text in enumerate(chunk):
            found = {
                task: {"label": out.labels[i], "score": float(out.scores[i])}
                for task, out in outputs.items()
            }
            shown = list(text) if isinstance(text, tuple) else text
            entries.append({"text": shown, "answers": found})
    return entries

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
        Per text {"text", "answers": {task: {"label", "score"}}}; {"error"} where a task cannot
        take such texts.
    """
    from lets.run.engine import Engine

    if not texts:
        raise LetsError("predict: there must be at least one text, got none")
    outputs = Engine.from_pretrained(encoder, list(packs), batch_size=batch_size)(texts)
    columns = {task: _column(output, len(texts)) for task, output in outputs.items()}
    return [
        {
            "text": list(text) if isinstance(text, tuple) else text,
            "answers": {task: column[i] for task, column in columns.items()},
        }
        for i, text in enumerate(texts)
    ]


def _column(output: Any, count: int) -> list[dict[str, Any]]:
    """One task's answers, or for every text the reason why it has none."""
    if output.error is not None:
        return [{"error": output.error}] * count
    return [
        {"label": label, "score": score}
        for label, score in zip(output.labels, output.scores.tolist())
    ]

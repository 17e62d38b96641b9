"""Answers of task packs to texts, as JSON."""

from __future__ import annotations

from typing import Any

from lets.errors import LetsError
from lets.run.engine import Engine
from lets.run.output import TaskOutput
from lets.tokens import Texts


def answer(engine: Engine, texts: Texts) -> list[dict[str, Any]]:
    """Every task's answer to every text, in one pass of the encoder per batch.

    Returns:
        Per text {"text", "answers": {task: {"label", "score"} or {"error"}}}.

    Raises:
        LetsError: no task can answer.
    """
    outputs = engine(texts)
    errors = [output.error for output in outputs.values()]
    if all(errors):  # nobody answers: the input is wrong
        raise LetsError("; ".join(dict.fromkeys(error for error in errors if error)))
    answers = {name: _entries(output, len(texts)) for name, output in outputs.items()}
    return [
        {
            "text": list(text) if isinstance(text, tuple) else text,
            "answers": {name: entries[i] for name, entries in answers.items()},
        }
        for i, text in enumerate(texts)
    ]


def _entries(output: TaskOutput, count: int) -> list[dict[str, Any]]:
    if output.error is not None:
        return [{"error": output.error}] * count
    pairs = zip(output.labels, output.scores.tolist())
    return [{"label": label, "score": score} for label, score in pairs]

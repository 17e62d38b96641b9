"""Scores and answers of what training left behind: task packs, and fully fine-tuned encoders."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lets.data import Columns, read_rows
from lets.encoder import Encoder, longest_input
from lets.errors import LetsError
from lets.pack import load_pack
from lets.run.engine import Engine
from lets.scores import CLASSIFICATION, DEFAULT_METRIC, REGRESSION, check_metric, score
from lets.tables import read_table
from lets.task_data import TaskRow
from lets.tokens import Texts
from lets.train.classifier import load_classifier
from lets.train.scoring import predictions_of


def read_labelled(
    path: str | Path, columns: Columns, labels: Sequence[str], problem_type: str
) -> list[TaskRow]:
    """Rows with labels, checked against the model's own."""
    numeric = problem_type == REGRESSION
    return read_rows(read_table(path), columns, numeric, None if numeric else labels)


def is_full_checkpoint(folder: str | Path) -> bool:
    """Is the folder a transformers checkpoint, not a task pack?"""
    folder = Path(folder)
    if (folder / "lets_config.json").is_file():
        return False
    if (folder / "config.json").is_file():
        return True
    raise LetsError(f"{folder}: holds neither a task pack nor a transformers checkpoint")


def evaluate_pack(
    encoder: Encoder,
    folder: str | Path,
    path: str | Path,
    columns: Columns,
    metric: str | None = None,
    batch_size: int = 32,
) -> dict[str, Any]:
    """Score a task pack on a file, through the engine."""
    task = load_pack(folder, encoder)
    rows = read_labelled(path, columns, task.labels, task.problem_type)
    engine = Engine(encoder, [task])

    def logits(texts: Texts) -> Tensor:
        return engine(texts)[task.name].logits

    return _report(logits, rows, task.labels, task.problem_type, metric or task.metric, batch_size)


def evaluate_full(
    folder: str | Path,
    path: str | Path,
    columns: Columns,
    metric: str | None = None,
    batch_size: int = 32,
    max_length: int = 128,
) -> dict[str, Any]:
    """Score a transformers classifier on a file."""
    from transformers import AutoTokenizer

    if max_length < 3:
        raise LetsError(f"eval: max_seq_length must be at least 3 tokens, got {max_length}")
    model = load_classifier(folder)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise LetsError(f"{folder}: its tokenizer cannot be loaded: {error}") from error
    max_length = min(max_length, longest_input(model.base_model, tokenizer))
    regression = model.config.num_labels == 1
    labels = () if regression else tuple(model.config.id2label[i] for i in range(model.num_labels))
    problem_type = REGRESSION if regression else CLASSIFICATION
    rows = read_labelled(path, columns, labels, problem_type)

    def logits(texts: Texts) -> Tensor:
        pairs = list(zip(*texts)) if isinstance(texts[0], tuple) else [texts]
        inputs = tokenizer(
            *map(list, pairs),
            truncation=True,
            max_length=max_length,
            padding=True,
            return_tensors="pt",
        )
        with torch.inference_mode():
            return model(**inputs).logits

    chosen = metric or DEFAULT_METRIC[problem_type]
    return _report(logits, rows, labels, problem_type, chosen, batch_size)


def _report(
    logits_of: Any,
    rows: Sequence[TaskRow],
    labels: Sequence[str],
    problem_type: str,
    metric: str,
    batch_size: int,
) -> dict[str, Any]:
    check_metric(metric, problem_type)
    if batch_size < 1:
        raise LetsError(f"eval: the batch size must be positive, got {batch_size}")
    begun = time.perf_counter()
    parts = []
    for start in range(0, len(rows), batch_size):
        chunk = rows[start : start + batch_size]
        pairs = chunk[0].text_pair is not None
        texts = [(r.text, r.text_pair) if pairs else r.text for r in chunk]
        parts.append(logits_of(texts).float())
    seconds = time.perf_counter() - begun
    index = {label: i for i, label in enumerate(labels)}
    targets = [index[str(r.label)] if labels else float(r.label) for r in rows]
    value = score(metric, targets, predictions_of(torch.cat(parts), problem_type))
    return {"metric": metric, "score": value, "rows": len(rows), "seconds": round(seconds, 3)}

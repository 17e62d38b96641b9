"""One task behind the call of transformers' text-classification pipeline."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from lets.encoder import Encoder
from lets.errors import LetsError
from lets.model import LetsModel
from lets.run.engine import Engine
from lets.scores import REGRESSION

_UNSET: Any = object()  # None means all labels


def pipeline(
    task: str,
    model: LetsModel | Engine | Any,
    task_name: str | None = None,
    *,
    encoder: Encoder | str | None = None,
    **engine_options: Any,
) -> TextClassificationPipeline:
    """A callable for one task.

    Args:
        task: "text-classification", or its other name "sentiment-analysis".
        model: A LetsModel, an Engine, or a task pack (then with its `encoder`).
        task_name: Which of the model's tasks answers; may be left out if there is only one.
    """
    if task not in ("text-classification", "sentiment-analysis"):
        raise LetsError(f"pipeline: task must be text-classification, got {task!r}")
    if isinstance(model, LetsModel):
        model = model.engine
    elif not isinstance(model, Engine):
        if encoder is None:
            raise LetsError(f"pipeline: encoder must be given for the task pack {model}")
        model = Engine.from_pretrained(encoder, [model], **engine_options)
    names = list(model.tasks)
    if task_name is None and len(names) != 1:
        raise LetsError(f"pipeline: task_name must be one of {', '.join(names) or 'no task'}")
    name = names[0] if task_name is None else task_name
    if name not in names:
        raise LetsError(f"pipeline: no task {name!r}; loaded: {', '.join(names) or 'none'}")
    return TextClassificationPipeline(model, name)


class TextClassificationPipeline:
    """Takes and returns what transformers' pipeline of this name does."""

    def __init__(self, engine: Engine, task_name: str) -> None:
        self.engine, self.task_name = engine, task_name

    def __call__(
        self,
        inputs: Any,
        top_k: int | None = _UNSET,
        function_to_apply: str | None = None,
        batch_size: int | None = None,
        max_length: int | None = None,
    ) -> Any:
        """Labels with scores.

        Args:
            inputs: A text, a pair {"text": ..., "text_pair": ...}, or a list of them.
            top_k: Best labels for each text, None: all; then each text has a list.
            function_to_apply: softmax, sigmoid or none; default: softmax, none for regression.
        """
        single = isinstance(inputs, (str, Mapping))
        texts = [_text(item) for item in ([inputs] if single else inputs)]
        output = self.engine(
            texts, [self.task_name], batch_size=batch_size, max_length=max_length
        )[self.task_name]  # fmt: skip
        loaded = self.engine.tasks[self.task_name]
        regression = loaded.problem_type == REGRESSION
        scores = _apply(output.logits, function_to_apply or ("none" if regression else "softmax"))
        labels = loaded.labels or ("LABEL_0",)
        found = [
            sorted(
                ({"label": n, "score": s} for n, s in zip(labels, row, strict=True)),
                key=lambda entry: -float(entry["score"]),
            )
            for row in scores.tolist()
        ]
        if top_k is not _UNSET:
            cut = [entries[:top_k] for entries in found]
            return cut[0] if single else cut
        best = [entries[0] for entries in found]
        # transformers: a lone text has a list of its own, a lone pair has not.
        return best[0] if isinstance(inputs, Mapping) else best


def _text(item: Any) -> Any:
    """A text, or a pair as the engine takes it."""
    if not isinstance(item, Mapping):
        return item
    if unknown := sorted(set(item) - {"text", "text_pair"}):
        raise LetsError(f"pipeline: inputs must have text and text_pair alone, got {unknown[0]!r}")
    if "text" not in item:
        raise LetsError("pipeline: inputs must have a text, got none")
    return item["text"] if item.get("text_pair") is None else (item["text"], item["text_pair"])


def _apply(logits: Tensor, function: str) -> Tensor:
    functions = {"softmax": lambda: logits.softmax(-1), "sigmoid": logits.sigmoid}
    if function.lower() == "none":
        return logits
    if function.lower() not in functions:
        raise LetsError(
            f"pipeline: function_to_apply must be one of softmax, sigmoid, none, got {function!r}"
        )
    return functions[function.lower()]()

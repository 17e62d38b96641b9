"""Full fine-tuning of the whole encoder with its ordinary classifier: the baseline."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lets.config import FitConfig
from lets.errors import LetsError
from lets.files import write_folder
from lets.progress import Progress
from lets.quiet import quiet_transformers
from lets.scores import REGRESSION
from lets.task_data import TaskData
from lets.tokens import Texts, TokenBatch
from lets.train.batches import Batches
from lets.train.loop import LoopPlan, train
from lets.train.optim import make_adamw
from lets.train.scoring import dev_score, target_tensor, task_loss, token_lengths
from lets.train.seeds import seed_everything
from lets.train.stage import Stage, data_fingerprint

_HEADS = ("classifier", "pre_classifier", "score")


@dataclass(frozen=True)
class FullResult:
    """A fully fine-tuned model: its folder, its dev score and how long training took."""

    model: Path
    metric: str
    dev_score: float
    seconds: float
    history: list[dict[str, Any]]
    wall_seconds: float

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "model": str(self.model)}


_RESULT = tuple(f.name for f in fields(FullResult) if f.name != "model")


def full_finetune(
    encoder: Any,
    data: TaskData,
    config: FitConfig,
    output_dir: str | Path,
    progress: Progress | None = None,
    overwrite: bool = False,
) -> FullResult:
    """Fine-tune every weight; resumable, and skipped when the same result is already there.

    Args:
        encoder: The frozen `Encoder`; the model starts from its folder and uses its tokenizer.
        overwrite: Replace what `output_dir` holds of other settings or data, instead of refusing.
    """
    settings, progress = config.full, progress or Progress()
    inputs = {
        "encoder": encoder.fingerprint,
        "data": data_fingerprint(data),
        "seed": config.seed,
        "max_seq_length": config.max_seq_length,
        "config": asdict(settings),
    }
    stage = Stage(output_dir, "full", inputs, overwrite=overwrite)
    model_folder = stage.file("model")
    found = stage.result(*_RESULT)
    if found is not None:
        progress.note(f"full: done before, {stage.folder}")
        return FullResult(model_folder, **{name: found[name] for name in _RESULT})
    seed_everything(config.seed, "full", "model")
    model = _load_model(encoder, data).to(encoder.device)
    parameters = {_renamed(name): p for name, p in model.named_parameters() if p.requires_grad}
    forward = forward_of(model, encoder, config.max_seq_length)
    lengths = token_lengths(encoder, data, config.max_seq_length, settings.group_by_length)
    batches = Batches(
        len(data.train), settings.per_device_train_batch_size, config.seed, "full", lengths
    )

    def compute_loss(step: int, rows: list[int]) -> Tensor:
        chosen = [data.train[i] for i in rows]
        model.train()
        return task_loss(forward(data.texts(chosen)), target_tensor(data, chosen))

    def evaluate() -> float:
        model.eval()
        return dev_score(forward, data, config.per_device_eval_batch_size)

    state = train(
        LoopPlan.of_epochs("full", batches, settings),
        parameters=parameters,
        optimizer=make_adamw(
            parameters,
            settings.learning_rate,
            head=settings.head_learning_rate,
            weight_decay=settings.weight_decay,
        ),
        batches=batches,
        compute_loss=compute_loss,
        evaluate=evaluate,
        checkpoints=stage.checkpoints,
        progress=progress,
    )
    model.eval()
    write_folder(model_folder, lambda folder: _save(model, encoder, folder))
    result = {
        "metric": data.metric,
        "dev_score": state.best_score,
        "seconds": state.seconds,
        "history": state.history,
    }
    files = [f"model/{p.name}" for p in sorted(model_folder.iterdir())]
    return FullResult(model_folder, **stage.complete(result, files))


def load_forward(folder: Path, encoder: Any, max_length: int) -> Callable[[Texts], Tensor]:
    """Texts → logits of a saved classifier, in eval mode."""
    model = load_classifier(folder).to(encoder.device)
    return torch.no_grad()(forward_of(model, encoder, max_length))


def load_classifier(folder: str | Path) -> Any:
    """A transformers classifier that `full_finetune` or somebody else saved, in eval mode."""
    from transformers import AutoModelForSequenceClassification

    try:
        with quiet_transformers():
            model = AutoModelForSequenceClassification.from_pretrained(
                folder, use_safetensors=True, dtype=torch.float32
            )
    except (OSError, ValueError) as error:
        raise LetsError(f"{folder}: cannot be loaded as a classifier: {error}") from error
    return model.eval()


def forward_of(model: nn.Module, encoder: Any, max_length: int) -> Callable[[Texts], Tensor]:
    """Texts → logits of a transformers classifier."""

    def forward(texts: Texts) -> Tensor:
        return model(**inputs_of(model, encoder.tokenize(texts, max_length))).logits

    return forward


def inputs_of(model: nn.Module, batch: TokenBatch) -> dict[str, Tensor]:
    """A batch as a transformers model takes it."""
    inputs = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}
    if _takes_token_types(model):
        inputs["token_type_ids"] = batch.token_type_ids
    return inputs


def _takes_token_types(model: nn.Module) -> bool:
    return getattr(model.config, "type_vocab_size", 0) > 1


def _renamed(name: str) -> str:
    """Names under which the new classifier takes the head's rate."""
    return f"head.{name}" if name.split(".")[0] in _HEADS else name


def _load_model(encoder: Any, data: TaskData) -> nn.Module:
    from transformers import AutoModelForSequenceClassification

    names = data.labels or ("LABEL_0",)
    regression = data.problem_type == REGRESSION
    try:
        with quiet_transformers():
            return AutoModelForSequenceClassification.from_pretrained(
                encoder.source,
                revision=encoder.revision,
                num_labels=data.num_labels,
                id2label=dict(enumerate(names)),
                label2id={name: i for i, name in enumerate(names)},
                problem_type="regression" if regression else "single_label_classification",
                use_safetensors=True,
                trust_remote_code=False,
                dtype=torch.float32,
            )
    except (OSError, ValueError) as error:
        raise LetsError(f"full: cannot load {encoder.source} as a classifier: {error}") from error


def _save(model: nn.Module, encoder: Any, folder: Path) -> None:
    with quiet_transformers():
        model.save_pretrained(folder)  # type: ignore[operator]
    encoder.tokenizer.save_pretrained(folder)

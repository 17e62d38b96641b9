"""Full fine-tuning of the whole encoder with its ordinary classifier: the baseline."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from torch import nn

from lets.config import FitConfig
from lets.files import write_folder
from lets.progress import Progress
from lets.quiet import quiet_transformers
from lets.task_data import TaskData
from lets.train.classifier import new_classifier, train_classifier
from lets.train.seeds import seed_everything
from lets.train.stage import Stage, data_fingerprint


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
    model = new_classifier(encoder, data.labels, data.problem_type)
    state = train_classifier(
        model, encoder, data, config, settings,
        stage="full", checkpoints=stage.checkpoints, progress=progress,
    )  # fmt: skip
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


def _save(model: nn.Module, encoder: Any, folder: Path) -> None:
    with quiet_transformers():
        model.save_pretrained(folder)  # type: ignore[operator]
    encoder.tokenizer.save_pretrained(folder)

"""The last stage: the trained model as a task pack."""

from __future__ import annotations

from pathlib import Path

from lets.files import remove_staged
from lets.pack import CONFIG, DELTA, save_pack
from lets.task import Task
from lets.task_model import TaskModel
from lets.train.stage import Stage
from lets.train.stages import RunInputs, StageResult


def pack_stage(run: RunInputs, folder: Path, tuned: StageResult, model: TaskModel) -> StageResult:
    """Write <folder>/pack, and beside it what it was made from."""
    data = run.data
    inputs = {
        "finetune": tuned.stage.key,
        "model": Stage.checksum_of(tuned.stage.file("model.safetensors")),
        "name": data.name,
    }
    stage = run.stage(folder, "pack", inputs, record="pack.json")
    found = stage.result()
    if found is not None:
        return StageResult(stage, found, True)
    task = Task.from_model(
        model,
        data.name,
        labels=data.labels,
        problem_type=data.problem_type,
        metric=data.metric,
        max_length=run.config.max_seq_length,
        is_pair=data.is_pair,
    )
    remove_staged(folder, "pack")
    # Without `samples`: packs are passed on, and the user's texts may not be.
    save_pack(
        stage.file("pack"),
        task,
        run.encoder,
        results={f"dev {data.metric}": tuned.summary["dev_score"]},
    )
    summary = {"pack": "pack", "nnz": task.nnz}
    return StageResult(stage, stage.complete(summary, [f"pack/{CONFIG}", f"pack/{DELTA}"]), False)


def pack_folder(result: StageResult) -> Path:
    return result.stage.file("pack")

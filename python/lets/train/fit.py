"""Algorithm 1: prune → search → prune → fine-tune → pack, one task, resumable at any point.

LeTS-(c) leaves out the second pruning and fine-tunes whole matrices; LeTS-(p) has no search, its
policy is one chain (METHOD section 9).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lets.config import FitConfig
from lets.errors import LetsError
from lets.files import write_json
from lets.policy import Policy
from lets.progress import Progress
from lets.task_data import TaskData
from lets.train.distill import Teacher
from lets.train.pack import pack_folder, pack_stage
from lets.train.stages import (
    RunInputs,
    StageResult,
    finetune_stage,
    mask_of,
    policy_of,
    prune_stage,
    search_stage,
)


@dataclass(frozen=True)
class FitResult:
    """A fitted task.

    Args:
        pack: Folder of the task pack.
        dev_score: Best development score of the final fine-tuning, of `metric`.
        timings: Seconds per stage; of a resumed stage, of its last part.
        skipped: Stages whose result was there before.
        history: Of the final fine-tuning: epoch, step, loss and score.
    """

    pack: Path
    metric: str
    dev_score: float
    policy: Policy
    timings: dict[str, float]
    skipped: tuple[str, ...]
    history: list[dict[str, Any]]

    def to_dict(self) -> dict[str, Any]:
        return {
            "pack": str(self.pack),
            "metric": self.metric,
            "dev_score": self.dev_score,
            "policy": self.policy.to_dict(),
            "timings": self.timings,
            "skipped": list(self.skipped),
        }


def fit(
    encoder: Any,
    data: TaskData,
    config: FitConfig,
    output_dir: str | Path,
    progress: Progress | None = None,
    policy: Policy | None = None,
    overwrite: bool = False,
    teacher: Teacher | None = None,
) -> FitResult:
    """Run all stages of a task; those whose result is already in `output_dir` are skipped.

    An interrupted stage goes on from its last checkpoint, to the same bits as an uninterrupted run.

    Args:
        config: Its `variant` says which of LeTS-(p,c), -(c) and -(p) is trained.
        policy: Given: no search, and no pruning of the super network for it.
        overwrite: Replace what `output_dir` holds of other settings or data, instead of refusing.
        teacher: Whose answers the final fine-tuning learns beside the labels.
    """
    run = RunInputs(encoder, data, config, progress or Progress(), overwrite, teacher)
    folder = Path(output_dir)
    timings: dict[str, float] = {}
    skipped: list[str] = []

    def record(result: StageResult) -> StageResult:
        timings[result.stage.name] = result.summary["wall_seconds"]
        if result.skipped:
            skipped.append(result.stage.name)
        return result

    if config.variant == "p":
        if policy is not None:
            raise LetsError("fit: variant p has no policy of its choice; leave the policy out")
        policy = Policy.chain(encoder.shape.num_layers)
    if policy is None:
        trial = record(prune_stage(run, folder / "prune-supernet", None))
        found = record(search_stage(run, folder / "search", mask_of(trial)))
        policy = policy_of(found)
    mask = None
    # LeTS-(c) has no mask, but may start with the head that warmed up for one.
    if config.variant != "c" or config.finetune.head_start == "pruned":
        mask = mask_of(record(prune_stage(run, folder / "prune", policy)))
    tuned, model = finetune_stage(run, folder / "finetune", policy, mask)
    record(tuned)
    packed = record(pack_stage(run, folder, tuned, model))
    result = FitResult(
        pack_folder(packed),
        data.metric,
        tuned.summary["dev_score"],
        policy,
        timings,
        tuple(skipped),
        tuned.summary["history"],
    )
    write_json(folder / "fit.json", {**result.to_dict(), "config": config.to_dict()})
    return result

"""LeTS taught by full fine-tuning: the answers of the task's own dense model beside its labels."""

from __future__ import annotations

from dataclasses import replace

from lets.baselines.base import System, SystemResult, SystemRun
from lets.train.classifier import load_classifier
from lets.train.distill import Teacher
from lets.train.full import full_finetune


def distilled(run: SystemRun, student: System) -> SystemResult:
    """A system of LeTS, fine-tuned towards the model that `full` trains of the same rows.

    The teacher is kept beside the task's search, for all systems that learn from it.
    """
    inputs = run.inputs
    trained = full_finetune(
        inputs.encoder, inputs.data, inputs.config, run.search_folder / "teacher",
        inputs.progress, inputs.overwrite,
    )  # fmt: skip
    model = load_classifier(trained.model).to(inputs.encoder.device)
    teacher = Teacher.of(model, inputs.encoder, inputs.config.max_seq_length)
    result = student(replace(run, inputs=replace(inputs, teacher=teacher)))
    score = max(entry["score"] for entry in trained.history)
    return replace(
        result,
        seconds={"teacher": trained.seconds, **result.seconds},
        details={**result.details, "teacher": {"slice_score": score}},
    )

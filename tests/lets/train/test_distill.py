"""A task that learns a model's answers beside its labels."""

from dataclasses import replace

import pytest
import torch
from lets.errors import LetsError
from lets.policy import Policy
from lets.progress import Progress
from lets.train.classifier import new_classifier
from lets.train.distill import Teacher, distillation_loss, loss_towards
from lets.train.fit import fit
from lets.train.scoring import target_tensor, task_loss
from lets.train.stages import RunInputs, finetune_stage, mask_of, prune_stage

POLICY = Policy.preset("depth-2", 3)


def contrary(data, name="contrary"):
    """A teacher who knows every row and says the other class."""
    known = {row.text: data.labels.index(row.label) for row in data.train}

    def forward(texts):
        return torch.stack([4.0 * (torch.arange(2) != known[text]) for text in texts])

    return Teacher(forward, name)


def test_soft_classes_by_hand():
    logits, teacher = torch.tensor([[0.0, 0.0]]), torch.tensor([[2.0, 0.0]])
    p = torch.tensor([1.0, 0.0]).softmax(-1)  # of 2 / T and 0
    expected = 4 * (p * (p / 0.5).log()).sum()
    torch.testing.assert_close(distillation_loss(logits, teacher, 2.0), expected)
    assert distillation_loss(teacher, teacher, 3.0).abs() < 1e-6


@pytest.mark.parametrize("regression", [False, True])
def test_the_loss_is_a_mean_of_teacher_and_labels(tiny_task, regression):
    data = tiny_task(regression=regression)
    width = 1 if regression else 2
    teacher, logits = torch.randn(len(data.train), width), torch.randn(3, width)
    rows = [4, 0, 7]
    whole, none, some = (loss_towards(teacher, data, 2.0, w)(rows, logits) for w in (1.0, 0.0, 0.3))
    labels = task_loss(logits, target_tensor(data, [data.train[i] for i in rows]))
    torch.testing.assert_close(none, labels)
    torch.testing.assert_close(some, 0.3 * whole + 0.7 * labels)


def finetuned(encoder, data, config, folder, teacher=None):
    run = RunInputs(encoder, data, config, Progress(), teacher=teacher)
    pruned = prune_stage(run, folder / "prune", POLICY)
    return finetune_stage(run, folder / "finetune", POLICY, mask_of(pruned))


def test_a_teacher_is_followed(tiny_encoder, tiny_task, tiny_config, tmp_path):
    data = tiny_task()
    config = tiny_config.override({"finetune": {"distill_weight": 1.0, "eval_strategy": "no"}})
    alone, _ = finetuned(tiny_encoder, data, config, tmp_path / "alone")
    taught, _ = finetuned(tiny_encoder, data, config, tmp_path / "taught", contrary(data))
    assert alone.summary["dev_score"] > 0.7
    assert taught.summary["dev_score"] < 0.3
    again, _ = finetuned(tiny_encoder, data, config, tmp_path / "taught", contrary(data))
    assert again.skipped
    with pytest.raises(LetsError, match="teacher"):
        finetuned(tiny_encoder, data, config, tmp_path / "taught", contrary(data, "another"))


def test_without_a_teacher_its_settings_decide_nothing(
    tiny_encoder, tiny_task, tiny_config, tmp_path
):
    data = tiny_task()
    finetuned(tiny_encoder, data, tiny_config, tmp_path)
    changed = tiny_config.override({"finetune": {"distill_weight": 0.9}})
    found, _ = finetuned(tiny_encoder, data, changed, tmp_path)
    assert found.skipped
    assert "distill_weight" not in found.stage.inputs["config"]


def test_a_classifier_as_teacher(tiny_encoder, tiny_task, tiny_config, tmp_path):
    data = tiny_task()
    teachers = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        model = new_classifier(tiny_encoder, data.labels, data.problem_type).eval()
        teachers.append(Teacher.of(model, tiny_encoder, 16))
    assert teachers[0].fingerprint != teachers[1].fingerprint
    calls = []

    def counted(texts):
        calls.append(len(texts))
        return teachers[0].forward(texts)

    given = replace(teachers[0], forward=counted)
    fit(tiny_encoder, data, tiny_config, tmp_path, policy=POLICY, teacher=given)
    assert sum(calls) == len(data.train)  # every row once, not once an epoch

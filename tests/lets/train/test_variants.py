"""LeTS-(c) and LeTS-(p): trained, packed, answered by the engine, resumed to the same bits."""

from dataclasses import replace

import pytest
import torch
from lets.dense import evaluate_densely
from lets.errors import LetsError
from lets.heads import PoolerHead
from lets.pack import load_pack
from lets.policy import Policy
from lets.progress import Progress
from lets.run.engine import Engine
from lets.train.finetune import forward_of
from lets.train.fit import fit
from lets.train.scoring import dev_score
from safetensors.torch import load_file

POLICIES = {"c": Policy("pff", "pff"), "p": None}


class Stop(Progress):
    def __init__(self, stage, after):
        self.stage, self.after = stage, after

    def advance(self, stage, step, **shown):
        if (stage, step) == (self.stage, self.after):
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def configured(tiny_config):
    def make(variant):
        return replace(tiny_config, variant=variant).override(
            {"finetune": {"dense_learning_rate": 1e-3}}
        )

    return make


@pytest.mark.parametrize("variant", ["c", "p"])
def test_trains_packs_answers_and_resumes(variant, tiny_encoder, tiny_task, configured, tmp_path):
    data, config, policy = tiny_task(), configured(variant), POLICIES[variant]
    result = fit(tiny_encoder, data, config, tmp_path / "whole", policy=policy)
    stages = ("finetune", "pack") if variant == "c" else ("prune", "finetune", "pack")
    assert tuple(result.timings) == stages
    task = load_pack(result.pack, tiny_encoder)
    assert task.variant == variant
    model = task.to_model(tiny_encoder)
    score = dev_score(forward_of(model, task.max_length), data, 32)
    assert score == pytest.approx(result.dev_score, abs=1e-9)
    assert result.dev_score > 0.8
    texts = [row.text for row in data.dev[:5]]
    batch = tiny_encoder.tokenize(texts, task.max_length)
    for mode in ("serial", "stacked"):
        answers = Engine(tiny_encoder, [task], mode=mode)(texts)[task.name].logits
        expected = evaluate_densely(model, batch).detach()
        torch.testing.assert_close(answers, expected, rtol=1e-4, atol=1e-4)

    with pytest.raises(KeyboardInterrupt):
        fit(tiny_encoder, data, config, tmp_path / "cut", Stop("finetune", 9), policy)
    fit(tiny_encoder, data, config, tmp_path / "cut", policy=policy)
    whole, cut = (
        load_file(tmp_path / name / "pack" / "lets_delta.safetensors") for name in ("whole", "cut")
    )
    assert whole.keys() == cut.keys()
    assert all(torch.equal(whole[name], cut[name]) for name in whole)


def test_p_starts_from_the_encoder_s_pooler(tiny_encoder, tiny_task, configured, tmp_path):
    from lets.progress import Progress
    from lets.train.stages import RunInputs

    run = RunInputs(tiny_encoder, tiny_task(), configured("p"), Progress())
    head = run.new_head("finetune")
    assert isinstance(head, PoolerHead)
    assert torch.equal(head.dense.weight, tiny_encoder.pooler["weight"])


def test_p_refuses_a_policy(tiny_encoder, tiny_task, configured, tmp_path):
    with pytest.raises(LetsError, match="variant p"):
        fit(tiny_encoder, tiny_task(), configured("p"), tmp_path, policy=Policy("ppp", "fff"))


def test_c_may_start_with_the_warmed_up_head(tiny_encoder, tiny_task, configured, tmp_path):
    config = configured("c").override({"finetune": {"head_start": "pruned"}})
    result = fit(tiny_encoder, tiny_task(), config, tmp_path, policy=POLICIES["c"])
    assert tuple(result.timings) == ("prune", "finetune", "pack")
    assert load_pack(result.pack, tiny_encoder).variant == "c"

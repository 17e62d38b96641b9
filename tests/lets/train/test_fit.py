import json
import shutil
from dataclasses import replace

import pytest
import torch
from lets.errors import LetsError
from lets.pack import load_pack
from lets.policy import Policy
from lets.progress import Progress
from lets.task_model import TaskModel
from lets.train.finetune import forward_of
from lets.train.fit import fit
from lets.train.scoring import dev_score
from lets.train.stages import (
    RunInputs,
    finetune_stage,
    mask_of,
    new_model,
    policy_of,
    prune_stage,
    search_stage,
)
from safetensors.torch import load_file

STAGES = ("prune-supernet", "search", "prune", "finetune", "pack")


class Stop(Progress):
    """Interrupts one stage after a number of its steps."""

    def __init__(self, stage, after):
        self.stage, self.after = stage, after

    def advance(self, stage, step, **shown):
        if (stage, step) == (self.stage, self.after):
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def uninterrupted(tiny_encoder, tiny_task, tiny_config, tmp_path_factory):
    folder = tmp_path_factory.mktemp("fit")
    return fit(tiny_encoder, tiny_task(), tiny_config, folder), folder


def pack_tensors(folder):
    return load_file(folder / "pack" / "lets_delta.safetensors")


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[n], b[n]) for n in a)


def test_the_pack_scores_what_training_reported(
    uninterrupted, tiny_encoder, tiny_task, tiny_config
):
    result, folder = uninterrupted
    assert tuple(result.timings) == STAGES
    assert result.skipped == ()
    task = load_pack(result.pack, tiny_encoder)
    assert task.policy == result.policy
    model = task.to_model(tiny_encoder)
    assert isinstance(model, TaskModel)
    score = dev_score(forward_of(model, task.max_length), tiny_task(), 32)
    assert score == pytest.approx(result.dev_score, abs=1e-9)
    saved = json.loads((folder / "fit.json").read_text())
    assert saved["config"] == tiny_config.to_dict()


@pytest.mark.parametrize(
    ("stage", "after"), [("prune-supernet", 5), ("search", 5), ("prune", 3), ("finetune", 9)]
)
def test_an_interrupted_run_ends_with_the_same_bits(
    uninterrupted, tiny_encoder, tiny_task, tiny_config, tmp_path, stage, after
):
    data = tiny_task()
    with pytest.raises(KeyboardInterrupt):
        fit(tiny_encoder, data, tiny_config, tmp_path, Stop(stage, after))
    assert not (tmp_path / "pack").exists()
    result = fit(tiny_encoder, data, tiny_config, tmp_path)
    assert result.skipped == STAGES[: STAGES.index(stage)]
    assert result.policy == uninterrupted[0].policy
    assert same(pack_tensors(tmp_path), pack_tensors(uninterrupted[1]))


def test_complete_stages_are_skipped_until_their_settings_change(
    tiny_encoder, tiny_task, tiny_config, tmp_path
):
    data, policy = tiny_task(), Policy("ppf", "pff")
    first = fit(tiny_encoder, data, tiny_config, tmp_path, policy=policy)
    again = fit(tiny_encoder, data, tiny_config, tmp_path, policy=policy)
    assert again.skipped == ("prune", "finetune", "pack")
    assert (again.dev_score, again.timings) == (first.dev_score, first.timings)
    kept = tiny_config.override({"finetune": {"save_steps": 7}})
    assert "finetune" in fit(tiny_encoder, data, kept, tmp_path, policy=policy).skipped
    other = tiny_config.override({"finetune": {"num_train_epochs": 1}})
    before = pack_tensors(tmp_path)
    message = r"finetune\S+: is the result of finetune with other inputs .*num_train_epochs .* -> 1"
    with pytest.raises(LetsError, match=message + r".*choose another .* or give --overwrite"):
        fit(tiny_encoder, data, other, tmp_path, policy=policy)
    with pytest.raises(LetsError, match=r"prune\S+: is the result of prune .*seed"):
        fit(tiny_encoder, data, replace(tiny_config, seed=1), tmp_path, policy=policy)
    assert same(pack_tensors(tmp_path), before)
    replaced = fit(tiny_encoder, data, other, tmp_path, policy=policy, overwrite=True)
    assert replaced.skipped == ("prune",)
    assert not same(pack_tensors(tmp_path), before)
    assert len(fit(tiny_encoder, data, other, tmp_path, policy=policy).skipped) == 3
    reseeded = replace(other, seed=1)
    assert fit(tiny_encoder, data, reseeded, tmp_path, policy=policy, overwrite=True).skipped == ()


def test_an_interrupted_run_of_other_settings_is_kept(
    tiny_encoder, tiny_task, tiny_config, tmp_path
):
    data, policy = tiny_task(), Policy("ppf", "pff")
    with pytest.raises(KeyboardInterrupt):
        fit(tiny_encoder, data, tiny_config, tmp_path, Stop("finetune", 9), policy)
    other = tiny_config.override({"finetune": {"num_train_epochs": 1}})
    with pytest.raises(LetsError, match=r"checkpoints: holds an interrupted run with other inputs"):
        fit(tiny_encoder, data, other, tmp_path, policy=policy)
    assert fit(tiny_encoder, data, other, tmp_path, policy=policy, overwrite=True).skipped == (
        "prune",
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", r"result\.json: cannot be read"),
        ("[]", r"result\.json: must be a JSON object"),
        ("{}", r"result\.json: lacks key"),
        ('{"key": "x", "files": 3, "result": {}}', r"result\.json: lacks files"),
        (None, r"result\.json: lacks result\.dev_score"),
    ],
)
def test_a_damaged_record_is_named(
    tiny_encoder, tiny_task, tiny_config, tmp_path, content, message
):
    data, policy = tiny_task(), Policy("ppp", "ppp")  # no live layer: quick
    fit(tiny_encoder, data, tiny_config, tmp_path, policy=policy)
    record = tmp_path / "finetune" / "result.json"
    if content is None:
        found = json.loads(record.read_text())
        del found["result"]["dev_score"]
        content = json.dumps(found)
    record.write_text(content)
    way_out = r".*: the file is damaged; remove it, or give --overwrite, to run finetune again"
    with pytest.raises(LetsError, match=message + way_out):
        fit(tiny_encoder, data, tiny_config, tmp_path, policy=policy)
    again = fit(tiny_encoder, data, tiny_config, tmp_path, policy=policy, overwrite=True)
    assert again.skipped == ("prune", "pack")


def test_a_damaged_result_is_named(tiny_encoder, tiny_task, tiny_config, tmp_path):
    data, policy = tiny_task(), Policy("ppp", "ppf")
    fit(tiny_encoder, data, tiny_config, tmp_path, policy=policy)
    file = tmp_path / "prune" / "mask.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"\x00\x01")
    with pytest.raises(ValueError, match=r"mask\.safetensors: is missing or differs"):
        fit(tiny_encoder, data, tiny_config, tmp_path, policy=policy)
    again = fit(tiny_encoder, data, tiny_config, tmp_path, policy=policy, overwrite=True)
    assert again.skipped == ("finetune", "pack")  # the same mask as before


def test_the_way_out_of_a_damaged_result(tiny_encoder, tiny_task, tiny_config, tmp_path):
    data, policy = tiny_task(), Policy("ppp", "ppf")
    pack = fit(tiny_encoder, data, tiny_config, tmp_path, policy=policy).pack
    shutil.rmtree(pack)
    with pytest.raises(ValueError, match=r"remove \S+pack\.json, or give --overwrite, to run"):
        fit(tiny_encoder, data, tiny_config, tmp_path, policy=policy)
    (tmp_path / "pack.json").unlink()
    again = fit(tiny_encoder, data, tiny_config, tmp_path, policy=policy)
    assert again.skipped == ("prune", "finetune")
    load_pack(again.pack, tiny_encoder)


def test_a_policy_without_live_layers_still_trains_a_head(
    tiny_encoder, tiny_task, tiny_config, tmp_path
):
    result = fit(tiny_encoder, tiny_task(), tiny_config, tmp_path, policy=Policy("pff", "ppp"))
    assert load_pack(result.pack, tiny_encoder).nnz == 0


def test_the_head_may_start_where_pruning_left_it(tiny_encoder, tiny_task, tiny_config, tmp_path):
    warm = tiny_config.override(
        {"search": {"head_start": "pruned"}, "finetune": {"head_start": "pruned"}}
    )
    run = RunInputs(tiny_encoder, tiny_task(), warm, Progress())
    policy = Policy("ppf", "pff")
    pruned = prune_stage(run, tmp_path / "prune", policy)
    model = new_model(run, policy, mask_of(pruned))
    trained = load_file(pruned.stage.file("head.safetensors"))
    assert same(dict(model.head.state_dict()), trained)
    fresh = dict(run.new_head("finetune").state_dict())
    assert not same(fresh, trained)
    result = fit(tiny_encoder, run.data, warm, tmp_path / "fit")
    assert result.skipped == ()
    (tmp_path / "prune" / "head.safetensors").unlink()
    with pytest.raises(LetsError, match=r"head\.safetensors: file not found; run the stage"):
        finetune_stage(run, tmp_path / "finetune", policy, mask_of(pruned))


def test_a_search_may_stream(uninterrupted, tiny_encoder, tiny_task, tiny_config, tmp_path):
    """The policy that is found gets the stream; a search without it has the key that it had."""
    _, folder = uninterrupted
    # With as many groups as layers every input is p, whatever is learnt.
    settings = {"pool": "f", "num_train_epochs": 0.5, "groups": 3, "stream": True}
    config = tiny_config.override({"search": settings})
    run = RunInputs(tiny_encoder, tiny_task(), config, Progress())
    found = search_stage(run, tmp_path, folder / "prune-supernet" / "mask.safetensors")
    assert policy_of(found) == Policy("pss", "fff")
    assert found.summary["policy"] == policy_of(found).to_dict()
    assert found.stage.inputs["config"]["stream"]
    kept = json.loads((folder / "search" / "result.json").read_text())
    assert "stream" not in kept["inputs"]["config"]

"""The verbs of the ecosystem over engine and packs."""

from types import SimpleNamespace

import huggingface_hub
import lets
import pytest
import torch
from lets.errors import LetsError
from lets.model import LetsModel
from lets.pack import load_pack, save_pack
from lets.policy import Policy

from tests.models import make_encoder, make_task, make_texts

TEXTS = make_texts(5)


@pytest.fixture
def encoder():
    return make_encoder()


@pytest.fixture
def packs(encoder, tmp_path):
    policies = {"topic": Policy("pff", "fff"), "spam": Policy("ppf", "pfp")}
    for seed, (name, policy) in enumerate(policies.items()):
        task = make_task(encoder, policy, seed=seed, name=name)
        save_pack(tmp_path / "packs" / name, task, encoder, results={"dev accuracy": 0.5})
    return tmp_path / "packs"


def test_tasks_are_loaded_chosen_and_deleted(encoder, packs):
    model = LetsModel.from_pretrained(encoder, [packs / "topic"], mode="serial")
    assert model.load_task(packs / "spam") == "spam"
    assert model.load_task(packs / "spam", task_name="other") == "other"
    assert model.active_tasks == ["topic", "spam", "other"]
    everything = model(TEXTS)
    torch.testing.assert_close(everything["spam"].logits, everything["other"].logits)
    model.set_tasks("spam")
    assert list(model(TEXTS)) == ["spam"]
    model.set_tasks(["other", "topic"])
    model.delete_task("other")
    assert model.active_tasks == ["topic"]
    model.set_tasks(None)
    assert model.active_tasks == ["topic", "spam"]
    model.add_task("again", load_pack(packs / "topic", encoder))
    torch.testing.assert_close(model(TEXTS)["again"].logits, everything["topic"].logits)
    with pytest.raises(LetsError, match="no task 'mood'; loaded: topic, spam, again"):
        model.set_tasks("mood")


def test_saved_and_loaded(encoder, packs, tmp_path):
    model = LetsModel.from_pretrained(encoder, packs)
    assert sorted(model.tasks) == ["spam", "topic"]
    model.save_pretrained(tmp_path / "saved", selected_tasks=["spam"])
    again = LetsModel.from_pretrained(encoder, tmp_path / "saved")
    assert torch.equal(again(TEXTS)["spam"].logits, model(TEXTS)["spam"].logits)
    card = (tmp_path / "saved" / "spam" / "README.md").read_text()
    assert "| dev accuracy | 0.5000 |" in card
    (tmp_path / "empty").mkdir()
    with pytest.raises(LetsError, match="must be a task pack or a folder of packs"):
        LetsModel.from_pretrained(encoder, tmp_path / "empty")


def test_pushed_to_the_hub(encoder, packs, monkeypatch):
    calls = []

    class Hub:
        def __init__(self, token=None):
            calls.append(("token", token))

        def create_repo(self, repo_id, **options):
            calls.append(("create", repo_id, options))
            return SimpleNamespace(repo_id=repo_id)

        def upload_folder(self, *, repo_id, folder_path, commit_message, revision):
            calls.append(("upload", repo_id, load_pack(folder_path, encoder).name, commit_message))
            return "url"

    monkeypatch.setattr(huggingface_hub, "HfApi", Hub)
    model = LetsModel.from_pretrained(encoder, packs)
    with pytest.raises(LetsError, match="task_name must be one of spam, topic"):
        model.push_to_hub("me/spam")
    assert model.push_to_hub("me/spam", "spam", private=True, token="t") == "url"
    assert calls == [
        ("token", "t"),
        ("create", "me/spam", {"private": True, "exist_ok": True}),
        ("upload", "me/spam", "spam", "Upload task spam"),
    ]


def test_status_and_parameters(encoder, packs, capsys):
    model = LetsModel.from_pretrained(encoder, packs)
    model.set_tasks(["topic"])
    trainable, total = model.get_nb_trainable_parameters()
    parameters = list(model.tasks["topic"].to_model(encoder).parameters())
    assert trainable == sum(p.numel() for p in parameters)
    assert total == trainable + encoder.shape.num_parameters
    model.print_trainable_parameters()
    assert capsys.readouterr().out == (
        f"trainable params: {trainable:,} || all params: {total:,} || "
        f"trainable%: {100 * trainable / total:.4f}\n"
    )
    spam, topic = model.get_task_status()
    assert (spam.name, spam.active, topic.active) == ("spam", False, True)
    assert spam.live_layers == (1,)
    assert topic.non_zeros == model.tasks["topic"].nnz
    assert (topic.dtype, topic.device, topic.labels) == ("float32", "cpu", ("no", "yes"))


def test_public_names():
    assert lets.LetsModel is LetsModel
    assert callable(lets.pipeline)
    assert {"LetsModel", "pipeline"} <= set(lets.__all__)

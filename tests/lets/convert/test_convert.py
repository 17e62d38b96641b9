"""Fine-tuned checkpoints as task packs: what is kept, what is lost, what is refused."""

import json
import re
import shutil

import pytest
import torch
import transformers
from lets.cli import app
from lets.config import FitConfig
from lets.convert.checkpoint import load_fine_tuned
from lets.convert.convert import ConvertConfig, compare, convert, with_labels_of
from lets.convert.mask import largest_changes, weight_gradients
from lets.errors import LetsError
from lets.pack import load_pack
from lets.policy import Policy
from lets.train.batches import Batches
from lets.train.classifier import forward_of
from lets.train.full import full_finetune
from typer.testing import CliRunner

SETTINGS = {
    "max_seq_length": 16,
    "prune": {"density": 0.2, "score_batches": 2},
    "finetune": {
        "num_train_epochs": 6,
        "learning_rate": 1e-2,
        "bias_learning_rate": 1e-3,
        "values_learning_rate": 1e-3,
        "save_steps": 2,
    },
}
CHAIN = Policy("pff", "fff")


@pytest.fixture(scope="module")
def settings():
    return FitConfig.from_dict(SETTINGS)


@pytest.fixture(scope="module")
def checkpoint(tiny_encoder, tiny_task, tiny_config, tmp_path_factory):
    """A small BERT that was fine-tuned in full."""
    config = tiny_config.override({"full": {"num_train_epochs": 2}})
    folder = tmp_path_factory.mktemp("full")
    return full_finetune(tiny_encoder, tiny_task(), config, folder).model


def test_change_scores_the_mask(checkpoint, tiny_encoder, tiny_task):
    tuned, data = load_fine_tuned(checkpoint, tiny_encoder), tiny_task()
    policy = Policy("pfp", "pff")
    masks = largest_changes(tiny_encoder, tuned, policy, 0.1, None)
    assert sorted(masks) == [1, 2] or sorted(masks) == list(policy.live_layers)
    changes = torch.cat([
        (getattr(tuned.layers[j], f"{m}_weight") - getattr(tiny_encoder.layers[j], f"{m}_weight"))
        .flatten() for j in masks for m in masks[j]
    ])  # fmt: skip
    kept = torch.cat([delta.values for layer in masks.values() for delta in layer.values()])
    assert len(kept) == round(0.1 * len(changes))
    torch.testing.assert_close(kept.abs().sort().values, changes.abs().sort().values[-len(kept) :])
    batches = Batches(len(data.train), 16, 0, "test")
    gradients = weight_gradients(tiny_encoder, tuned, data, batches, 2, 16)
    assert gradients[0].qkv_weight.shape == (96, 32)
    other = largest_changes(tiny_encoder, tuned, policy, 0.1, gradients)
    assert sum(d.layout.nnz for m in other.values() for d in m.values()) == len(kept)


def test_gradients_are_those_of_the_checkpoint(checkpoint, tiny_encoder, tiny_task):
    tuned, data = load_fine_tuned(checkpoint, tiny_encoder), tiny_task()
    batches = Batches(len(data.train), 16, 0, "test")
    found = weight_gradients(tiny_encoder, tuned, data, batches, 1, 16)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(checkpoint)
    rows = [data.train[i] for i in batches.at(0)]
    logits = forward_of(model, tiny_encoder, 16)(data.texts(rows))
    torch.nn.functional.cross_entropy(logits, torch.tensor(data.targets(rows))).backward()
    expected = model.bert.encoder.layer[1].intermediate.dense.weight.grad
    torch.testing.assert_close(found[1].up_weight, expected)


@pytest.mark.parametrize(("pairs", "regression"), [(False, False), (True, True)])
def test_convert(pairs, regression, tiny_encoder, tiny_task, tiny_config, settings, tmp_path):
    data = tiny_task(pairs, regression)
    config = tiny_config.override({"full": {"num_train_epochs": 2}})
    model = full_finetune(tiny_encoder, data, config, tmp_path / "full").model
    tuned = load_fine_tuned(model, tiny_encoder)
    report = convert(
        tiny_encoder, tuned, data, ConvertConfig(CHAIN), settings, tmp_path / "packs" / "warmth"
    )
    assert report["agreement"] > (0.5 if regression else 0.8)
    assert report["pack_score"] > report["dense_score"] - 0.1
    assert 0.0 < report["delta_kept"] < 1.0
    assert report["embeddings_changed"] > 0.0
    assert report["new_ops_percent"] > 50.0
    task = load_pack(tmp_path / "packs" / "warmth", tiny_encoder)
    assert task.labels == data.labels
    assert [p.name for p in (tmp_path / "packs").iterdir()] == ["warmth"]
    found = compare(forward_of(tuned.model, tiny_encoder, 16), task, tiny_encoder, data, 32)
    assert found["pack_score"] == report["pack_score"]
    with pytest.raises(LetsError, match="give --overwrite"):
        convert(tiny_encoder, tuned, data, ConvertConfig(CHAIN), settings, report["pack"])
    with pytest.raises(LetsError, match="exists and is no task pack"):
        convert(tiny_encoder, tuned, data, ConvertConfig(CHAIN), settings, tmp_path)
    assert not (tmp_path.parent / f".{tmp_path.name}.convert").exists()


def test_whole_change_starts_from_the_checkpoint(checkpoint, tiny_encoder, tiny_task, settings):
    """At density 1 the chain is the fine-tuned model, up to its embeddings."""
    from lets.convert.mask import changed_vectors
    from lets.heads import LayerwiseHead
    from lets.task_model import TaskModel
    from lets.train.masks import layouts_of

    tuned = load_fine_tuned(checkpoint, tiny_encoder)
    masks = largest_changes(tiny_encoder, tuned, CHAIN, 1.0, None)
    model = TaskModel(tiny_encoder, CHAIN, layouts_of(masks), LayerwiseHead(3, 32, 2))
    for j, vectors in changed_vectors(tiny_encoder, tuned, range(3)).items():
        model.task_layer(j).load(masks[j], vectors)
    bert = tuned.model.bert
    bert.embeddings.load_state_dict(tiny_encoder._embeddings.state_dict())
    batch = tiny_encoder.tokenize(["the sun and ice", "snow"], 16)
    cache = tiny_encoder.forward(batch, model.needs)
    hidden = bert(batch.input_ids, batch.attention_mask, output_hidden_states=True).hidden_states
    expected = torch.stack([h[:, 0] for h in hidden[1:]], dim=1)
    torch.testing.assert_close(model.pooled(cache), expected, rtol=1e-4, atol=1e-4)


def test_labels_of_a_model_without_names(checkpoint, tiny_encoder, tiny_task, tmp_path):
    folder = shutil.copytree(checkpoint, tmp_path / "unnamed")
    config = json.loads((folder / "config.json").read_text())
    config["id2label"] = {"0": "LABEL_0", "1": "LABEL_1"}
    config["label2id"] = {"LABEL_0": 0, "LABEL_1": 1}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(LetsError, match=r"must be LABEL_0, LABEL_1.*got 'cold'; --labels"):
        with_labels_of(load_fine_tuned(folder, tiny_encoder), tiny_task())
    named = load_fine_tuned(folder, tiny_encoder, ["warm", "cold"])
    assert with_labels_of(named, tiny_task()).labels == ("warm", "cold")
    with pytest.raises(LetsError, match="labels must be 2 names, got one"):
        load_fine_tuned(folder, tiny_encoder, ["one"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "deberta-v2"}, "model_type must be one of bert, distilbert.*'deberta-v2'"),
        ({"architectures": ["BertForMaskedLM"]}, "ForSequenceClassification, got BertForMaskedLM"),
        ({"num_hidden_layers": 2}, "num_layers must be that of .*, 3, got 2"),
        ({"intermediate_size": 128}, "intermediate_size must be that of .*, 64, got 128"),
        ({"vocab_size": 99}, "vocab_size must be that of"),
        ({"problem_type": "multi_label_classification"}, "answers with one label"),
    ],
)
def test_refused(change, message, checkpoint, tiny_encoder, tmp_path):
    folder = shutil.copytree(checkpoint, tmp_path / "changed")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **change}))
    with pytest.raises(LetsError, match=message):
        load_fine_tuned(folder, tiny_encoder)


def test_command(checkpoint, tiny_folder, tiny_encoder, tmp_path, monkeypatch):
    from tests.tiny import make_rows, write_csv

    (tmp_path / "recipe.json").write_text(json.dumps(SETTINGS))
    files = [write_csv(tmp_path / f"{s}.csv", make_rows(64, n)) for s, n in (("a", 1), ("b", 2))]
    arguments = [
        "convert", "--dense", checkpoint, "--encoder", tiny_folder, "--data", files[0],
        "--validation-file", files[1], "--text", "text", "--label", "label", "--policy", "g-1",
        "--task-name", "warmth", "--recipe", tmp_path / "recipe.json", "-o", tmp_path / "x",
    ]  # fmt: skip
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    assert result.exit_code == 0, result.output + result.stderr
    assert "lost: " in result.stdout
    assert load_pack(tmp_path / "x", tiny_encoder).name == "warmth"
    again = CliRunner().invoke(app, [str(a) for a in (*arguments, "--overwrite", "--json")])
    assert json.loads(again.stdout)["metric"] == "accuracy"
    monkeypatch.chdir(tmp_path)
    short = CliRunner().invoke(app, [*map(str, arguments[:-2]), "--json"])
    assert json.loads(short.stdout)["pack"] == "packs/warmth"
    assert load_pack("packs/warmth", tiny_encoder).name == "warmth"
    both = CliRunner().invoke(app, [str(a) for a in (*arguments, "--adapter", "b")])
    assert both.exit_code == 2
    assert "give --dense or --adapter, and not both" in both.stderr


def test_teacher_of_fit(checkpoint, tiny_folder, tmp_path):
    from tests.tiny import make_rows, write_csv

    (tmp_path / "recipe.json").write_text(json.dumps(SETTINGS))
    files = [write_csv(tmp_path / f"{s}.csv", make_rows(48, n)) for s, n in (("a", 1), ("b", 2))]
    arguments = [
        "fit", "--teacher", checkpoint, "--encoder", tiny_folder, "--data", files[0],
        "--validation-file", files[1], "--policy", "stream-1", "--task-name", "warmth",
        "--recipe", tmp_path / "recipe.json", "-o", tmp_path / "x", "--json",
    ]  # fmt: skip

    numbers = write_csv(tmp_path / "numbers.csv", make_rows(9, 1, regression=True))

    def run(*more):
        return CliRunner().invoke(app, [str(a) for a in (*arguments, *more)])

    found = json.loads(run("--num-train-epochs", "1").stdout)
    assert found["policy"] == {"input": "pss", "pool": "fff"}
    stage = json.loads((tmp_path / "x" / "finetune" / "result.json").read_text())
    assert len(stage["inputs"]["teacher"]) == 64
    assert stage["inputs"]["config"]["distill_temperature"] == 2.0
    for more, message in (
        (["--method", "full"], "--teacher: is of --method lets"),
        (["--tasks", "t.yaml"], "--teacher: is of one task"),
        (
            ["--problem-type", "regression", "--data", numbers, "--validation-file", numbers],
            "--teacher: .* must be a model of regression, got classification",
        ),
    ):
        refused = run(*more)
        assert refused.exit_code == 2
        assert re.search(message, refused.stderr), refused.stderr

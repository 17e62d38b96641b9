"""PEFT's SHiRA adapters: the classifier that peft makes of them, and its changes."""

import json

import pytest
import torch
from lets.cli import app
from lets.convert.shira import load_shira
from lets.encoder import Encoder
from lets.errors import LetsError
from lets.run.engine import Engine
from lets.train.classifier import forward_of
from lets.train.masks import total_nnz
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForSequenceClassification
from typer.testing import CliRunner

from lets_ext import Delta
from tests.tiny import save_tiny_bert, write_csv

TEXTS = ["the sun and ice", "snow", "a day near the fire"]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A base classifier's folder, whose checkpoint has a pooler."""
    folder = tmp_path_factory.mktemp("shira") / "base"
    save_tiny_bert(folder)
    return folder


@pytest.fixture(scope="module")
def adapter(base, tmp_path_factory):
    """An adapter as peft saves it, and the logits that peft's model gives."""
    peft = pytest.importorskip("peft")
    torch.manual_seed(0)
    config = AutoConfig.from_pretrained(base, num_labels=3)
    model = AutoModelForSequenceClassification.from_pretrained(base, config=config)
    shira = peft.ShiraConfig(
        r=2, task_type="SEQ_CLS", target_modules=["query", "value", "dense"], random_seed=1,
        init_weights=False, modules_to_save=["classifier"],
    )  # fmt: skip
    model = peft.get_peft_model(model, shira).eval()
    folder = tmp_path_factory.mktemp("adapter")
    model.save_pretrained(folder)
    encoder = Encoder.from_pretrained(base)
    with torch.no_grad():
        return folder, forward_of(model, encoder, 16)(TEXTS)


def changed(adapter, folder, change):
    """A copy of an adapter with other tensors."""
    tensors = change(load_file(adapter[0] / "adapter_model.safetensors"))
    save_file(tensors, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text((adapter[0] / "adapter_config.json").read_text())
    return folder


def test_is_what_peft_computes(base, adapter):
    encoder = Encoder.from_pretrained(base)
    tuned, masks = load_shira(adapter[0], encoder, ["a", "b", "c"])
    assert tuned.labels == ("a", "b", "c")
    with torch.no_grad():
        found = forward_of(tuned.model, encoder, 16)(TEXTS)
    torch.testing.assert_close(found, adapter[1], rtol=1e-5, atol=1e-5)
    stored = load_file(adapter[0] / "adapter_model.safetensors")
    counted = {n: len(t) for n, t in stored.items() if n.endswith("shira_weight")}
    pooler = sum(count for name, count in counted.items() if "pooler" in name)
    assert total_nnz(masks) == sum(counted.values()) - pooler
    for j, layer in masks.items():
        for matrix, delta in layer.items():
            change = getattr(tuned.layers[j], f"{matrix}_weight")
            change = change - getattr(encoder.layers[j], f"{matrix}_weight")
            dense = torch.zeros_like(change)
            dense[change.abs() > 1e-6] = change[change.abs() > 1e-6]
            torch.testing.assert_close(
                Delta(delta.layout, delta.values).to_dense()[0], dense, rtol=1e-5, atol=1e-6
            )


def test_converts_exactly(base, adapter, tmp_path):
    """The command's default for an adapter: the ordinary architecture, nothing trained."""
    rows = [{"text": text, "label": str(i % 3)} for i, text in enumerate(TEXTS * 4)]
    arguments = [
        "convert", "--adapter", adapter[0], "--encoder", base, "--max-seq-length", "16",
        "--data", write_csv(tmp_path / "a.csv", rows), "-o", tmp_path / "pack", "--json",
        "--validation-file", write_csv(tmp_path / "b.csv", rows), "--task-name", "t",
    ]  # fmt: skip
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    assert result.exit_code == 0, result.output + result.stderr
    report = json.loads(result.stdout)
    assert report["max_difference"] < 1e-4
    assert report["agreement"] == 1.0
    encoder = Encoder.from_pretrained(base)
    engine = Engine.from_pretrained(encoder, [tmp_path / "pack"])
    assert engine.tasks["t"].variant == "p"
    torch.testing.assert_close(engine(TEXTS)["t"].logits, adapter[1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("peft_type", "LORA", "peft_type must be SHIRA, got 'LORA'"),
        ("task_type", "CAUSAL_LM", "task_type must be SEQ_CLS, got 'CAUSAL_LM'"),
    ],
)
def test_other_adapters_are_refused(field, value, message, adapter, tiny_encoder, tmp_path):
    folder = changed(adapter, tmp_path, lambda tensors: tensors)
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**config, field: value}))
    with pytest.raises(LetsError, match=message):
        load_shira(folder, tiny_encoder)


def _without_classifier(tensors):
    return {n: t for n, t in tensors.items() if "classifier" not in n}


def _out_of_range(tensors):
    name = next(n for n in tensors if n.endswith("shira_indices"))
    return {**tensors, name: tensors[name] + 1000}


def _not_finite(tensors):
    name = next(n for n in tensors if n.endswith("shira_weight"))
    return {**tensors, name: tensors[name] * torch.nan}


def _indices_without_a_number(tensors):
    name = next(n for n in tensors if n.endswith("shira_indices"))
    return {**tensors, name: tensors[name] * torch.nan}


def _weights_in_rows(tensors):
    name = next(n for n in tensors if n.endswith("shira_weight"))
    return {**tensors, name: tensors[name][:, None]}


def _one_weight(tensors):
    name = next(n for n in tensors if n.endswith("shira_weight"))
    return {**tensors, name: tensors[name][0].clone()}


def _bias_to_broadcast(tensors):
    name = next(n for n in tensors if n.endswith("classifier.bias"))
    return {**tensors, name: tensors[name][:1].clone()}


def _of_no_module(tensors):
    return {**tensors, "base_model.model.other.shira_weight": torch.ones(1)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_without_classifier, "must hold its classifier"),
        (_out_of_range, "must be rows and columns of"),
        (_not_finite, "must be finite"),
        (_indices_without_a_number, "must be rows and columns of"),
        (_weights_in_rows, "must be rows and columns of"),
        (_one_weight, "must be rows and columns of"),
        (_bias_to_broadcast, r"classifier.bias must be \[3\], got \[1\]"),
        (_of_no_module, "other must be a linear layer"),
    ],
)
def test_damaged_adapters_are_refused(change, message, adapter, base, tmp_path):
    with pytest.raises(LetsError, match=message):
        load_shira(changed(adapter, tmp_path, change), Encoder.from_pretrained(base))

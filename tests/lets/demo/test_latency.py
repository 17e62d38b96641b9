"""The demo's latency table on tiny models: both sides checked, every count and batch there."""

import pytest
from lets.bench.problem import dense_classifier
from lets.demo import latency
from lets.encoder import Encoder
from lets.errors import LetsError
from lets.pack import save_pack
from lets.policy import Policy

from tests.models import make_task


@pytest.fixture(scope="module")
def trained(tiny_folder, tmp_path_factory):
    folder, encoder = tmp_path_factory.mktemp("demo"), Encoder.from_pretrained(tiny_folder)
    packs, models = {}, []
    for seed, name in enumerate(("topic", "tone", "intent")):
        task = make_task(encoder, Policy("ppf", "pff"), seed=seed, name=name)
        packs[name] = save_pack(folder / name, task, encoder)
        models.append(folder / f"{name}-full")
        dense_classifier(tiny_folder, seed).save_pretrained(models[-1])
    return encoder, packs, models


@pytest.fixture
def measure(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(latency, "onnx_runtime_available", lambda: False)
    encoder, packs, models = trained
    return lambda: latency.demo_latency(encoder, packs, models, tmp_path, seq_len=8)


def test_rows(measure):
    report = measure()
    assert [(row["tasks"], row["batch"]) for row in report["rows"]] == [
        (3, 1), (3, 16), (9, 1), (9, 16)
    ]  # fmt: skip
    for row in report["rows"]:
        assert row["speedup"] == pytest.approx(row["dense_ms"]["eager"] / row["lets_ms"], rel=0.05)
    assert 0 < report["max_abs_difference"] < 1e-4


def test_wrong_answers_end_it(measure, monkeypatch):
    monkeypatch.setattr(latency, "tolerance", lambda _: -1.0)
    with pytest.raises(LetsError, match="no latency is reported"):
        measure()

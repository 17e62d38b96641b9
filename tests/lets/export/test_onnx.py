"""Exported graphs give the engine's logits in ONNX Runtime, at any batch and length."""

import json

import pytest
import torch
from lets.cli import app
from lets.encoder import Encoder
from lets.errors import LetsError
from lets.export.graph import TasksGraph
from lets.export.onnx import export_onnx, run_onnx
from lets.pack import save_pack
from lets.policy import Policy
from lets.run.engine import Engine
from typer.testing import CliRunner

from tests.models import make_encoder, make_mpnet_encoder, make_task, make_texts, save_bert

POLICIES = {
    "chain": Policy("pff", "fff"),
    "mixed": Policy("ppf", "pfp"),
    "rows": Policy("ppp", "pff"),
    "bypassed": Policy("ppp", "ppp"),
    "stream": Policy("pss", "pfp"),
}
TEXTS = make_texts(7)


def tasks_of(encoder):
    tasks = [
        make_task(encoder, policy, seed=seed, name=name, labels=("a", "b", "c"))
        for seed, (name, policy) in enumerate(POLICIES.items())
    ]
    return [*tasks, make_task(encoder, POLICIES["mixed"], name="number", labels=())]


def session_of(folder):
    onnxruntime = pytest.importorskip("onnxruntime")
    return onnxruntime.InferenceSession(
        str(folder / "model.onnx"), providers=["CPUExecutionProvider"]
    )


@pytest.mark.parametrize("make", [make_encoder, make_mpnet_encoder], ids=["bert", "mpnet"])
def test_graph_is_the_engine(make):
    encoder = make()
    tasks = tasks_of(encoder)
    batch = encoder.tokenize(TEXTS, 24)
    found = TasksGraph(encoder, tasks)(batch.input_ids, batch.attention_mask, batch.token_type_ids)
    expected = Engine(encoder, tasks).forward(batch)
    for task, logits in zip(tasks, found):
        torch.testing.assert_close(logits, expected[task.name], rtol=1e-4, atol=1e-4)


def test_onnx_runtime_agrees(tmp_path):
    pytest.importorskip("onnxscript")
    folder = save_bert(tmp_path / "encoder")
    encoder = Encoder.from_pretrained(folder)
    packs = [
        save_pack(tmp_path / name, make_task(encoder, POLICIES["mixed"], name=name, labels=labels),
                  encoder)
        for name, labels in (("letter", ("a", "b", "c")), ("number", ()))
    ]  # fmt: skip
    out = tmp_path / "onnx"
    arguments = ["export", *packs, "--encoder", folder, "--onnx", out, "--json"]
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    assert result.exit_code == 0, result.output + result.stderr
    assert json.loads(result.stdout)["tasks"] == ["letter", "number"]
    session, engine = session_of(out), Engine.from_pretrained(encoder, packs)
    for texts in (TEXTS, TEXTS[:1], make_texts(3, seed=5, shortest=1, longest=3)):
        batch = encoder.tokenize(texts, 24)
        found = run_onnx(session, batch, ["letter", "number"])
        for name, logits in engine.forward(batch).items():
            torch.testing.assert_close(found[name], logits, rtol=1e-4, atol=1e-4)
    described = json.loads((out / "lets_tasks.json").read_text())
    assert described["inputs"] == [node.name for node in session.get_inputs()]
    assert described["tasks"]["letter"]["labels"] == ["a", "b", "c"]
    assert described["tasks"]["number"]["problem_type"] == "regression"
    assert (out / "tokenizer.json").is_file()


def test_refused(tmp_path):
    encoder = make_encoder()
    with pytest.raises(LetsError, match="at least one task, got none"):
        export_onnx(encoder, [], tmp_path / "a")
    first = tasks_of(encoder)[0]
    with pytest.raises(LetsError, match=f"different names, got {first.name} more than once"):
        export_onnx(encoder, [first, first], tmp_path / "a")
    assert not (tmp_path / "a").exists()
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(LetsError, match="holds other files than an export"):
        export_onnx(encoder, tasks_of(encoder), tmp_path)

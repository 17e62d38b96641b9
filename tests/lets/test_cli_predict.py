"""`lets predict`, and the options of engines that it shares with `lets serve` and `lets bench`."""

import inspect
import json

import pytest
import torch
from lets.cli import app
from lets.cli.answer import predict
from lets.cli.bench import bench
from lets.cli.serve import serve
from lets.encoder import Encoder
from lets.errors import LetsError
from lets.int8 import int8_available
from lets.pack import save_pack
from lets.policy import Policy
from lets.precision import named_dtype, tolerance
from typer.testing import CliRunner

from tests.models import make_task, save_bert

needs_int8 = pytest.mark.skipif(not int8_available(), reason="needs exact sums of 8-bit integers")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """An encoder and two packs with samples, on the disk."""
    folder = tmp_path_factory.mktemp("predict")
    encoder = Encoder.from_pretrained(save_bert(folder / "encoder"))
    for i, name in enumerate(("topic", "spam")):
        task = make_task(encoder, Policy("ppf", "pff"), seed=i, name=name)
        save_pack(folder / "packs" / name, task, encoder, samples=["red", "a blue tree"])
    return str(folder / "encoder"), str(folder / "packs")


def answers(folders, *options):
    encoder, packs = folders
    given = ["predict", "--encoder", encoder, "--pack", packs, "--json", *options, "a blue tree"]
    result = CliRunner().invoke(app, given)
    assert result.exit_code == 0, result.stderr
    (entry,) = json.loads(result.stdout)
    return entry["answers"]


@pytest.mark.parametrize(
    ("options", "off"),
    [
        (("--mode", "serial"), 1e-5),
        (("--dtype", "bfloat16"), 0.05),
        pytest.param(("--quantization", "int8"), 0.05, marks=needs_int8),
    ],
)
def test_other_engines_answer_alike(folders, options, off):
    exact, found = answers(folders), answers(folders, *options)
    for name in ("topic", "spam"):
        assert found[name]["score"] == pytest.approx(exact[name]["score"], abs=off)
    if off > 1e-3:
        assert found != exact  # the option reached the engine


@pytest.mark.parametrize("option", ["dtype", "quantization", "mode"])
def test_unknown_words_are_refused(folders, option):
    encoder, packs = folders
    for verb in (["predict", "--pack", packs], ["serve", packs]):
        given = [*verb, "--encoder", encoder, f"--{option}", "int3"]
        result = CliRunner().invoke(app, given, input="red")
        assert result.exit_code == 2
        assert option in result.stderr


def test_verbs_share_the_options():
    shared = ("mode", "device", "dtype", "quantization")
    options = [
        {name: inspect.signature(verb).parameters[name] for name in shared}
        for verb in (predict, serve, bench)
    ]
    helps = [[p.annotation.__metadata__[0].help for p in found.values()] for found in options]
    assert helps[0] == helps[1] == helps[2]
    defaults = [[p.default for p in found.values()] for found in options]
    assert defaults == [["auto", "cpu", "float32", None]] * 3


@needs_int8
def test_servers_take_packs_that_int8_answers_alike(folders):
    pytest.importorskip("fastapi")
    from lets.serve.start import load_engine

    engine = load_engine(folders[0], [folders[1]], quantization="int8")
    assert engine.quantization == "int8"
    assert set(engine.tasks) == {"topic", "spam"}


def test_precisions_by_name():
    assert named_dtype("bf16", "bench") is named_dtype("bfloat16", "bench") is torch.bfloat16
    with pytest.raises(LetsError, match=r"serve: dtype must be one of float32, .*, got .int4."):
        named_dtype("int4", "serve")
    assert tolerance(torch.float32) < tolerance(torch.float16) < tolerance(torch.bfloat16)
    assert tolerance(torch.float32, "int8") > tolerance(torch.bfloat16)

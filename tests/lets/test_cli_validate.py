"""`lets validate`: exit codes and what it prints."""

import json
import shutil

import pytest
from lets.cli import app
from lets.encoder import Encoder
from lets.pack import DELTA, save_pack
from lets.policy import Policy
from typer.testing import CliRunner

from tests.models import make_task, save_bert


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("validate")
    encoder = Encoder.from_pretrained(save_bert(folder))
    return folder, save_pack(folder / "pack", make_task(encoder, Policy("ppf", "pff")), encoder)


def run(*arguments):
    return CliRunner().invoke(app, ["validate", *map(str, arguments)])


def test_valid_pack(saved):
    folder, pack = saved
    result = run(pack, "--encoder", folder, "--json")
    assert result.exit_code == 0
    report = json.loads(result.stdout)
    assert report["valid"]
    assert report["samples_checked"] == 2
    assert "sample answers not checked" in run(pack).stdout


def test_invalid_pack(saved, tmp_path):
    broken = shutil.copytree(saved[1], tmp_path / "pack")
    (broken / DELTA).write_bytes((broken / DELTA).read_bytes()[:-9])
    result = run(broken, "--json")
    assert result.exit_code == 2
    assert not json.loads(result.stdout)["valid"]
    assert "truncated" in result.stderr
    assert "Traceback" not in result.stderr
    assert run(tmp_path / "none").exit_code == 2


def test_pack_for_another_encoder(saved, tmp_path):
    save_bert(tmp_path, seed=1)
    result = run(saved[1], "--encoder", tmp_path)
    assert result.exit_code == 2
    assert "load the encoder that it was trained on" in result.stderr

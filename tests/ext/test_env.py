import json

import pytest
import torch

from lets_ext import env


def test_report_is_complete_and_json():
    facts = json.loads(json.dumps(env.report()))
    assert facts["torch"] == torch.__version__
    assert facts["ops"] is True
    assert facts["isa"] in env.ISAS
    assert facts["threads"] == torch.get_num_threads()
    assert {
        "build_type", "compiler", "cuda", "cuda_archs", "cuda_switched_off", "native_arch",
    } <= set(facts["build"])  # fmt: skip


@pytest.mark.parametrize("arguments", [[], ["--json"]])
def test_prints(arguments, capsys):
    env.main(arguments)
    output = capsys.readouterr().out
    assert torch.__version__ in output
    assert not arguments or json.loads(output)["ops"]


def test_missing_binary_says_how_to_build(monkeypatch):
    monkeypatch.setattr(env._load, "LOADED", False)
    assert any("pip install ." in line for line in env.report()["missing"])
    with pytest.raises(ImportError, match=r"pip install \."):
        env.selected_isa()


@pytest.mark.parametrize(
    ("switched_off", "reason"),
    [(True, "switched off when built (LETS_WITH_CUDA=0)"), (False, "built without nvcc")],
)
def test_says_why_there_are_no_cuda_kernels(monkeypatch, switched_off, reason):
    build = {"cuda": False, "cuda_switched_off": switched_off}
    monkeypatch.setattr(env._load.host(), "build_info", lambda: build)
    assert any(f"CUDA kernels: {reason}; put" in line for line in env.report()["missing"])


def test_select_isa_returns_to_the_old_one():
    before = env.selected_isa()
    assert env.supported_isas()[0] == "baseline"
    assert env.selected_isa() == before


def test_select_isa_rejects_unknown_names():
    with pytest.raises(ValueError, match="name must be one of baseline, avx2, avx512, got 'sse9'"):
        env.select_isa("sse9")
    with pytest.raises(RuntimeError, match="select_isa: name must be"):
        torch.ops.lets_ext.select_isa.default("sse9")

"""The parts of the build that are plain Python: the backend, and a machine without a compiler."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytest.importorskip("setuptools")


@pytest.fixture
def backend():
    spec = importlib.util.spec_from_file_location("backend", ROOT / "_build" / "backend.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def make_site(folder, version):
    (folder / "torch").mkdir(parents=True)
    (folder / "torch" / "version.py").write_text(f"__version__ = '{version}'\n")
    return folder


@pytest.mark.parametrize(
    ("version", "usable"), [("2.11.0", True), ("2.13.0+cpu", True), ("3.0", True), ("2.9.1", False)]
)
def test_finds_the_torch_of_the_target(backend, monkeypatch, tmp_path, version, usable):
    site = make_site(tmp_path / "site", version)
    monkeypatch.setattr(backend, "_sites", lambda: [None, str(tmp_path / "absent"), str(site)])
    monkeypatch.setattr(backend.importlib.util, "find_spec", lambda name: None)
    assert backend.target_torch() == (str(site) if usable else None)
    assert backend._requirements() == ([] if usable else ["torch>=2.11"])


def test_torch_to_build_with_can_be_named(backend, monkeypatch, tmp_path):
    monkeypatch.setattr(backend, "_sites", lambda: [])
    monkeypatch.setattr(backend.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setenv("LETS_BUILD_TORCH", "torch==2.12.*")
    assert backend._requirements() == ["torch==2.12.*"]


def run_setup(tmp_path, **variables):
    """`setup.py build_ext` of a copy of the sources, with no compiler on the path."""
    for name in ("setup.py", "pyproject.toml", "LICENSE"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    (tmp_path / "README.md").write_text("")
    (tmp_path / "lets_ext").mkdir()
    (tmp_path / "python").mkdir()
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("LETS_", "CXX"))}
    return subprocess.run(
        [sys.executable, "setup.py", "-q", "build_ext", "--inplace"],
        cwd=tmp_path,
        env={**environment, "PATH": str(tmp_path), **variables},
        capture_output=True,
        text=True,
    )


def test_without_compiler_the_build_goes_on_and_says_so(tmp_path):
    result = run_setup(tmp_path)
    assert result.returncode == 0, result.stderr
    assert "no C++ compiler found" in result.stderr


def test_without_compiler_a_required_extension_is_fatal(tmp_path):
    result = run_setup(tmp_path, LETS_REQUIRE_EXT="1")
    assert result.returncode != 0
    assert "no C++ compiler found" in result.stderr

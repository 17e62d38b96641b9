"""What ships: light imports, pinned workflows, a Dockerfile of files that exist."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
# Beside torch: whoever answers texts from packs needs none of them before the first text.
HEAVY = {
    "accelerate", "datasets", "fastapi", "matplotlib", "onnx", "onnxruntime", "onnxscript",
    "pandas", "peft", "pyarrow", "ray", "rich", "scipy", "sklearn", "transformers", "typer",
    "uvicorn", "yaml",
}  # fmt: skip
API = "Encoder, Engine, LetsModel, Policy, Task, load_pack, pipeline, save_pack"


def imported_by(statement):
    """Top-level modules that a statement imports, in a new interpreter."""
    code = f"import sys; {statement}; print(*{{name.split('.')[0] for name in sys.modules}})"
    path = {"PYTHONPATH": f"{ROOT}:{ROOT / 'python'}"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=path, capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def test_import_is_light():
    found = imported_by("import lets")
    assert not found & {*HEAVY, "torch", "numpy", "lets_ext"}


def test_api_adds_nothing_heavy_to_torch():
    assert not imported_by(f"from lets import {API}") & HEAVY


def test_help_needs_no_torch():
    assert "torch" not in imported_by("from lets.cli import app")


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_are_pinned_and_may_only_read(path):
    text = path.read_text()
    workflow = yaml.safe_load(text)
    assert workflow["permissions"] == {}
    for name, job in workflow["jobs"].items():
        assert job["permissions"] == {"contents": "read"}, name
        assert job["timeout-minutes"] <= 90
        assert "latest" not in str(job["runs-on"])
    uses = re.findall(r"uses: (.*)", text)
    assert uses
    for action in uses:
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", action), action


def test_docker_context_has_what_the_build_needs():
    kept = re.findall(r"^!(\S+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE)
    assert all((ROOT / name).exists() for name in kept)
    manifest = (ROOT / "MANIFEST.in").read_text()
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE", "python", "lets_ext"):
        assert name in kept
    for name in re.findall(r"^recursive-include (\S+)", manifest, re.MULTILINE):
        assert name in kept


def test_dockerfile_runs_the_server_as_nobody_special():
    text = (ROOT / "Dockerfile").read_text()
    assert re.findall(r"^FROM \S+ AS (\S+)", text, re.MULTILINE) == [
        "build-cpu", "build-cuda", "server", "cuda", "cpu",
    ]  # fmt: skip
    assert text.count("USER lets") == 2
    images = set(re.findall(r"^FROM (\S+:\S+)", text, re.MULTILINE))
    assert all(re.search(r":\d+\.\d+\.\d+", image) for image in images)

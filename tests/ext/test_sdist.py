"""What an sdist holds, and that making one leaves nothing in the source tree."""

import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytest.importorskip("setuptools")
MAKE = "import sys; sys.path.insert(0, '_build'); import backend; backend.build_sdist(sys.argv[1])"


def _egg_infos():
    return {*ROOT.glob("*.egg-info"), *(ROOT / "python").glob("*.egg-info")}


@pytest.fixture(scope="module")
def names(tmp_path_factory):
    """Files of the sdist, by their path in the source tree."""
    folder = tmp_path_factory.mktemp("sdist")
    eggs = _egg_infos()
    subprocess.run([sys.executable, "-c", MAKE, folder], cwd=ROOT, check=True, capture_output=True)
    assert _egg_infos() == eggs
    (archive,) = folder.glob("lets_ext-*.tar.gz")
    with tarfile.open(archive) as file:
        return {member.name.partition("/")[2] for member in file if member.isfile()}


def test_holds_every_source_of_the_build(names):
    sources = [p for p in (ROOT / "csrc").rglob("*") if p.is_file()]
    sources += [*(ROOT / "lets_ext").glob("*.py*"), *(ROOT / "python").rglob("*.py")]
    sources += [*(ROOT / "python").rglob("recipes/*.json")]
    wanted = {str(p.relative_to(ROOT)) for p in sources}
    wanted |= {"CMakeLists.txt", "setup.py", "pyproject.toml", "_build/backend.py", "LICENSE"}
    assert wanted <= names


def test_both_packages_are_typed(names):
    assert {"lets_ext/py.typed", "python/lets/py.typed"} <= names


def test_holds_no_products(names):
    assert not [name for name in names if name.endswith((".so", ".o", ".pyc"))]

"""PEP 517 backend: setuptools, building against the torch of the target environment.

An isolated build environment would download a torch of its own (gigabytes, perhaps another version
or another CUDA build) only for its headers. The environment that is being installed into has one.
"""

import contextlib
import importlib.util
import os
import re
import sys
import sysconfig
import tempfile
from pathlib import Path

from setuptools import build_meta
from setuptools.build_meta import *  # noqa: F403  (a backend is the union of setuptools' hooks and ours)

MINIMUM = (2, 11)


def _version(site):
    """Version of the torch in a site-packages folder, without importing it; None without one."""
    try:
        text = (Path(site) / "torch" / "version.py").read_text()
    except OSError:
        return None
    found = re.search(r"__version__\s*=\s*['\"](\d+)\.(\d+)", text)
    return tuple(map(int, found.groups())) if found else None


def _sites():
    """site-packages folders of the target environment, most explicit first."""
    yield os.environ.get("LETS_TORCH_SITE")
    yield from (sysconfig.get_path(key) for key in ("platlib", "purelib"))
    if prefix := os.environ.get("VIRTUAL_ENV"):
        variables = {"base": prefix, "platbase": prefix}
        yield sysconfig.get_path("platlib", scheme="venv" if _has_venv() else None, vars=variables)


def _has_venv():
    return "venv" in sysconfig.get_scheme_names()


def target_torch():
    """Folder that holds a usable torch outside the build environment, or None."""
    for site in filter(None, _sites()):
        if (version := _version(site)) and version >= MINIMUM:
            return site
    return None


def _requirements():
    if importlib.util.find_spec("torch") or target_torch():
        return []
    spec = os.environ.get("LETS_BUILD_TORCH", "torch>=2.11")
    print(
        f"lets-ext: no torch in the target environment, the build needs {spec!r}", file=sys.stderr
    )
    return [spec]


def _use_target_torch():
    if importlib.util.find_spec("torch") is None and (site := target_torch()):
        print(f"lets-ext: building against the torch in {site}", file=sys.stderr)
        os.environ["LETS_TORCH_SITE"] = site


@contextlib.contextmanager
def _clean_tree():
    """Keep products out of the source tree: a CMake cache that names the tools of an isolated
    environment, which is gone afterwards, would break the next build."""
    with tempfile.TemporaryDirectory(prefix="lets-ext-") as folder:
        os.environ["LETS_BUILD_BASE"] = folder
        try:
            yield
        finally:
            del os.environ["LETS_BUILD_BASE"]


def get_requires_for_build_sdist(config_settings=None):
    with _clean_tree():
        return build_meta.get_requires_for_build_sdist(config_settings)


def get_requires_for_build_wheel(config_settings=None):
    with _clean_tree():
        return build_meta.get_requires_for_build_wheel(config_settings) + _requirements()


def get_requires_for_build_editable(config_settings=None):
    return build_meta.get_requires_for_build_editable(config_settings) + _requirements()


def prepare_metadata_for_build_wheel(*args, **kwargs):
    with _clean_tree():
        return build_meta.prepare_metadata_for_build_wheel(*args, **kwargs)


def build_sdist(*args, **kwargs):
    with _clean_tree():
        return build_meta.build_sdist(*args, **kwargs)


def build_wheel(*args, **kwargs):
    _use_target_torch()
    with _clean_tree():
        return build_meta.build_wheel(*args, **kwargs)


def build_editable(*args, **kwargs):
    _use_target_torch()
    return build_meta.build_editable(*args, **kwargs)

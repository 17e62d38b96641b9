"""Builds the compiled half of lets_ext with CMake + ninja; metadata lives in pyproject.toml.

Environment: LETS_REQUIRE_EXT=1 (no compiler is an error), LETS_WITH_CUDA=0|1 (default: if nvcc is
found), LETS_CUDA_ARCHS="80;90a-real", LETS_NATIVE_ARCH=1 (this machine only), LETS_BUILD_TYPE,
LETS_SANITIZE=address,undefined (a build for tests), LETS_TORCH_SITE, LETS_BUILD_BASE (folder of
everything temporary, default: build), MAX_JOBS.
"""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
BUILD_BASE = os.environ.get("LETS_BUILD_BASE")
NO_COMPILER = """\
lets-ext: no C++ compiler found (looked for $CXX, c++, g++, clang++).
  The Python part is installed; ops of lets_ext raise ImportError until the extension is built.
  Install one (Debian: apt-get install g++, macOS: xcode-select --install) and run `pip install .`.
  LETS_REQUIRE_EXT=1 turns this message into an error."""


def is_on(name):
    return os.environ.get(name, "") not in ("", "0", "off", "OFF")


def find_compiler():
    names = [os.environ.get("CXX"), "c++", "g++", "clang++"]
    return next((name for name in names if name and shutil.which(name.split()[0])), None)


def torch_folder():
    """Folder of the torch package to build against; not imported: that takes seconds."""
    if site := os.environ.get("LETS_TORCH_SITE"):
        return Path(site) / "torch"
    spec = importlib.util.find_spec("torch")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("lets-ext: torch >= 2.11 must be installed to build the extension")
    return Path(spec.submodule_search_locations[0])


class CMakeBuild(build_ext):
    """One CMake project gives both libraries, lets_ext/_C.so and lets_ext/_host*.so."""

    def run(self):
        if find_compiler() is None:
            if is_on("LETS_REQUIRE_EXT"):
                raise SystemExit(NO_COMPILER)
            print(NO_COMPILER, file=sys.stderr)
            return
        super().run()

    def get_ext_filename(self, name):
        # The op library is loaded by torch, not by Python: no interpreter version in its name.
        is_ops = name.rpartition(".")[2] == "_C"
        return "lets_ext/_C.so" if is_ops else super().get_ext_filename(name)

    def build_extensions(self):
        import pybind11

        output = (Path(self.build_lib) / "lets_ext").resolve()
        build = Path(BUILD_BASE or ROOT / "build") / f"cmake-{sys.implementation.cache_tag}"
        arguments = {
            "CMAKE_BUILD_TYPE": os.environ.get("LETS_BUILD_TYPE", "Release"),
            "Python_EXECUTABLE": sys.executable,
            "pybind11_DIR": pybind11.get_cmake_dir(),
            "LETS_TORCH_DIR": torch_folder(),
            "LETS_OUTPUT_DIR": output,
            "LETS_WITH_CUDA": os.environ.get("LETS_WITH_CUDA", "auto"),
            "LETS_CUDA_ARCHS": os.environ.get("LETS_CUDA_ARCHS", ""),
            "LETS_NATIVE_ARCH": "ON" if is_on("LETS_NATIVE_ARCH") else "OFF",
            "LETS_SANITIZE": os.environ.get("LETS_SANITIZE", ""),
        }
        define = [f"-D{key}={value}" for key, value in arguments.items()]
        subprocess.run(["cmake", "-S", ROOT, "-B", build, "-G", "Ninja", *define], check=True)
        jobs = [f"-j{os.environ['MAX_JOBS']}"] if "MAX_JOBS" in os.environ else []
        subprocess.run(["cmake", "--build", build, *jobs], check=True)


setup(
    packages=[*find_packages("python"), "lets_ext"],
    package_dir={"": "python", "lets_ext": "lets_ext"},
    package_data={
        "lets_ext": ["py.typed", "*.pyi"],
        "lets": ["py.typed", "recipes/*.json", "reproduce/*.json", "serve/page/*.*"],
    },
    ext_modules=[Extension(name, sources=[]) for name in ("lets_ext._C", "lets_ext._host")],
    cmdclass={"build_ext": CMakeBuild},
    options={"build": {"build_base": BUILD_BASE}, "egg_info": {"egg_base": BUILD_BASE}}
    if BUILD_BASE
    else {},
)

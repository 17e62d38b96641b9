"""Build lets_ext for one card: with setup.py, or where its tools are missing, compiler by hand.

usage: python -m bench.gpu.build ARCH [--by-hand] [--out FOLDER]   (ARCH as in nvcc's sm_ARCH)

By hand takes what any machine with torch and nvcc has: torch brings pybind11's headers along.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CSRC = ROOT / "csrc"
HOST = ["-std=c++20", "-O3", "-DNDEBUG", "-fPIC", "-fvisibility=hidden", f"-I{CSRC}"]
KERNELS = ["-Wno-psabi", "-Wno-maybe-uninitialized", "-ffp-contract=fast"]
ISAS = {  # as in CMakeLists.txt
    "baseline": [],
    "avx2": ["-mavx2", "-mfma", "-mf16c"],
    "avx512": ["-mavx2", "-mfma", "-mf16c", "-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl",
               "-mprefer-vector-width=512"],
}  # fmt: skip


def with_setup(arch: str) -> int:
    environment = {"LETS_WITH_CUDA": "1", "LETS_REQUIRE_EXT": "1"}
    environment["LETS_CUDA_ARCHS"] = f"{arch}-real"
    command = [sys.executable, "setup.py", "build_ext", "--inplace"]
    return subprocess.run(command, cwd=ROOT, env=os.environ | environment).returncode


def by_hand(arch: str, out: Path) -> int:
    import torch

    cxx, nvcc = os.environ.get("CXX") or "g++", os.environ.get("CUDACXX") or "nvcc"
    site = Path(torch.__file__).parent
    cuda = Path(os.path.realpath(shutil.which(nvcc) or nvcc)).parents[1]
    if not (cuda / "include" / "cuda_runtime_api.h").is_file():
        cuda = Path("/usr/local/cuda")
    x86 = sysconfig.get_platform().endswith("x86_64")
    info = [
        f"-DLETS_HAVE_X86_ISAS={int(x86)}", "-DLETS_HAVE_CUDA=1", "-DLETS_NATIVE=0",
        "-DLETS_CUDA_SWITCHED_OFF=0",
        f'-DLETS_CUDA_ARCHS="{arch}-real"', '-DLETS_BUILD_TYPE="Release"',
    ]  # fmt: skip
    tensor = [
        *info, "-DUSE_CUDA", "-DTORCH_TARGET_VERSION=0x020b000000000000",
        f"-isystem{site / 'include'}", f"-isystem{cuda / 'include'}",
    ]  # fmt: skip
    objects = out / "objects"
    objects.mkdir(parents=True, exist_ok=True)
    jobs: list[list[str]] = []

    def add(compiler: list[str], source: Path, options: list[str], tag: str) -> str:
        target = str(objects / f"{tag}_{source.name}.o")
        jobs.append([*compiler, *options, "-c", str(source), "-o", target])
        return target

    gencode = f"-gencode=arch=compute_{arch},code=sm_{arch}"
    device = [nvcc, "-std=c++17", "-O3", f"-I{CSRC}", "-Xcompiler", "-fPIC,-fvisibility=hidden"]
    ops = [add(device, s, [gencode], "gpu") for s in sorted((CSRC / "kernels").glob("*.cu"))]
    sources = [CSRC / "ops.cpp", *sorted((CSRC / "torch").glob("*.cpp"))]
    ops += [add([cxx, *HOST], s, tensor, "torch") for s in sources]
    ops.append(add([cxx, *HOST], CSRC / "kernels" / "isa.cpp", info, "isa"))
    for i, (name, flags) in enumerate(ISAS.items()):
        sources = sorted((CSRC / "kernels").glob("*.cpp")) if x86 or not i else []
        options = [*flags, f"-DLETS_ISA={i}"]
        kernels = [s for s in sources if s.name != "isa.cpp"]
        ops += [add([cxx, *HOST, *KERNELS], s, options, name) for s in kernels]
    python = sysconfig.get_paths()["include"]
    bound = [*info, f"-isystem{python}", f"-isystem{site / 'include'}"]
    host = [
        add([cxx, *HOST], s, bound, "host")
        for s in [CSRC / "module.cpp", *sorted((CSRC / "host").glob("*.cpp"))]
    ]

    def compile_one(command: list[str]) -> int:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode:
            print(" ".join(command), done.stdout, sep="\n", flush=True)
        return done.returncode

    with ThreadPoolExecutor(int(os.environ.get("MAX_JOBS", os.cpu_count() or 1))) as pool:
        if any(list(pool.map(compile_one, jobs))):
            return 1
    library = [
        cxx, "-shared", "-o", str(out / "_C.so"), *ops, f"-L{site / 'lib'}",
        "-Wl,--no-as-needed", "-ltorch", "-ltorch_cpu", "-lc10", "-Wl,--as-needed",
        f"-L{cuda / 'lib64'}", f"-L{cuda / 'targets' / 'x86_64-linux' / 'lib'}",
        "-lcudart_static", "-ldl", "-lrt", "-lpthread", "-Wl,--exclude-libs,ALL",
    ]  # fmt: skip
    module = [cxx, "-shared", "-o", str(out / f"_host{sysconfig.get_config_var('EXT_SUFFIX')}")]
    return compile_one(library) or compile_one([*module, *host])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("arch", help="such as 90a")
    parser.add_argument("--by-hand", action="store_true")
    parser.add_argument("--out", type=Path, default=ROOT / "lets_ext")
    options = parser.parse_args()
    tools = ("cmake", "ninja")
    missing = [tool for tool in tools if not shutil.which(tool)]
    missing += [m for m in ("pybind11", "setuptools") if importlib.util.find_spec(m) is None]
    if not options.by_hand and not missing and with_setup(options.arch) == 0:
        return 0
    print(f"building by hand (missing: {', '.join(missing) or 'nothing'})", flush=True)
    out = options.out
    status = by_hand(options.arch, out)
    shutil.rmtree(out / "objects", ignore_errors=True)
    return status


if __name__ == "__main__":
    sys.exit(main())

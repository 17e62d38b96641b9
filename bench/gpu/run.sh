#!/usr/bin/env bash
# Everything that needs a GPU, in one command and under nine minutes: build for the card, results on
# the device against float64, compute-sanitizer, microbenchmarks beside their peers.
# usage: bench/gpu/run.sh   (PYTHON=... another interpreter, OUT=... another folder for results)
# Needs torch >= 2.11 with CUDA, nvcc, a C++ compiler, cmake, ninja, pybind11; no network.
set -euo pipefail
cd "$(dirname "$0")/../.."
PYTHON=${PYTHON:-python3}
export PYTHONPATH="$PWD:$PWD/python${PYTHONPATH:+:$PYTHONPATH}"
started=$SECONDS

arch=$("$PYTHON" -m bench.gpu.device --arch)  # ends here, with a message, where there is no GPU
out=${OUT:-bench/results/$("$PYTHON" -m bench.gpu.device --slug)}
mkdir -p "$out"

echo "== build for sm_$arch"
LETS_WITH_CUDA=1 LETS_REQUIRE_EXT=1 LETS_CUDA_ARCHS="$arch-real" \
  "$PYTHON" setup.py build_ext --inplace > "$out/build.log" 2>&1 || { tail -n 40 "$out/build.log"; exit 1; }

echo "== results against float64, eager, on another stream and in CUDA graphs"
"$PYTHON" -m bench.gpu.check --out "$out/check.json"

sanitizer=$(command -v compute-sanitizer || ls /usr/local/cuda/bin/compute-sanitizer 2> /dev/null || true)
if [ -n "$sanitizer" ]; then
  for tool in memcheck racecheck; do
    echo "== compute-sanitizer, $tool"
    # Some machines do not let it attach; that is no failure of ours, so the log says what happened.
    timeout 100 "$sanitizer" --tool "$tool" --error-exitcode 9 "$PYTHON" -m bench.gpu.check --small \
      > "$out/$tool.log" 2>&1 && code=0 || code=$?
    tail -n 2 "$out/$tool.log"
    if [ "$code" = 9 ]; then exit 1; fi
  done
else
  echo "== compute-sanitizer not found: skipped"
fi

echo "== microbenchmarks"
left=$((510 - (SECONDS - started)))
"$PYTHON" -m bench.gpu.microbench --out "$out" --seconds "$left"

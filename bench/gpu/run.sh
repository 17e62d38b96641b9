#!/usr/bin/env bash
# Everything that needs a GPU, in one command and under nine minutes: build for the card, the stream,
# results on the device against float64, compute-sanitizer, microbenchmarks beside their peers.
# usage: bench/gpu/run.sh [--dry-run]   (PYTHON=... another interpreter, OUT=... folder for results)
# Needs torch >= 2.11 with CUDA, nvcc and a C++ compiler; no network, not even cmake or pybind11.
# Each part has a time limit, writes its results as it goes and fails for itself alone;
# summary.txt says how each one ended. --dry-run: on the CPU, to see that the script works.
set -u
cd "$(dirname "$0")/../.." || exit 1
PYTHON=${PYTHON:-python3}
export PYTHONPATH="$PWD:$PWD/python${PYTHONPATH:+:$PYTHONPATH}"
dry=${1:-}
limit=${LIMIT:-530}  # seconds for everything

if [ "$dry" = --dry-run ]; then
  arch=cpu
  out=${OUT:?with --dry-run, OUT must name a folder}
else
  arch=$("$PYTHON" -m bench.gpu.device --arch) || exit $?  # says what is missing
  slug=$("$PYTHON" -m bench.gpu.device --slug) || exit $?
  out=${OUT:-bench/results/$slug}
fi
mkdir -p "$out" || exit 1
: > "$out/summary.txt"
failed=0

note() { echo "$*" | tee -a "$out/summary.txt"; }
left() { echo $((limit - SECONDS)); }

# part NAME SECONDS COMMAND...: its output goes to NAME.log, its last lines here.
part() {
  local name=$1 seconds=$2 code=0 before=$SECONDS
  shift 2
  if [ "$(left)" -lt "$seconds" ]; then seconds=$(left); fi
  if [ "$seconds" -lt 5 ]; then note "$name: left out, no time"; failed=1; return 1; fi
  echo "== $name (at most $seconds s)"
  timeout "$seconds" "$@" > "$out/$name.log" 2>&1 || code=$?
  tail -n "${LINES_SHOWN:-8}" "$out/$name.log"
  note "$name: exit $code after $((SECONDS - before)) s"
  if [ "$code" -ne 0 ]; then failed=1; fi
  return "$code"
}

{ date -u; git rev-parse HEAD; nvidia-smi; nvcc --version; "$PYTHON" -V; } \
  > "$out/machine.txt" 2>&1
"$PYTHON" -c "import torch; print(torch.__version__, torch.version.cuda)" >> "$out/machine.txt" 2>&1

if [ "$arch" != cpu ]; then
  LINES_SHOWN=30 part build 240 "$PYTHON" -m bench.gpu.build "$arch" || { note "no build, nothing to run"; exit 1; }
  part stream 40 "$PYTHON" -m bench.gpu.device --stream || note "the ops do not find the stream"
fi
part check 100 "$PYTHON" -m bench.gpu.check --out "$out/check.json" $dry

sanitizer=$(command -v compute-sanitizer || ls /usr/local/cuda/bin/compute-sanitizer 2> /dev/null)
if [ "$arch" != cpu ] && [ -n "$sanitizer" ]; then
  for tool in memcheck racecheck; do
    # Some machines do not let it attach; that is no failure of ours, so the log says what happened.
    LINES_SHOWN=2 part "$tool" 50 "$sanitizer" --tool "$tool" --error-exitcode 9 \
      "$PYTHON" -m bench.gpu.check --small
  done
else
  note "compute-sanitizer: not run"
fi

LINES_SHOWN=40 part microbench "$(left)" "$PYTHON" -m bench.gpu.microbench --out "$out" \
  --seconds "$(($(left) - 20))" $dry
cat "$out/summary.txt"
exit "$failed"

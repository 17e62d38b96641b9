# Two commands for a fresh machine: `make demo` and `make test`. Everything happens inside .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
NATIVE := $(shell git ls-files csrc CMakeLists.txt setup.py pyproject.toml _build 2>/dev/null)

.PHONY: demo test test-slow fuzz sanitize soak lint format bench bench-engine bench-serve docs-tables reproduce emulate traffic cuda-check cuda-all install-check clean help

help:
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

demo: $(VENV)/.extension $(VENV)/.demo  ## three real tasks end to end (13 to 17 minutes on 2 cores)
	$(BIN)/lets demo

test: $(VENV)/.extension  ## the default test suite
	$(BIN)/python -m pytest

test-slow: $(VENV)/.extension $(VENV)/.ray  ## also the tests marked slow
	$(BIN)/python -m pytest -m "slow or not slow"

fuzz: $(VENV)/.extension  ## what parses strangers' files, for a minute
	PYTHONPATH=python $(BIN)/python -m tests.fuzz.run

sanitize: $(VENV)/.extension  ## the extension under ASan, UBSan and TSan, with its tests
	PYTHONPATH=python $(BIN)/python -m tests.sanitize.run

lint: $(VENV)/.dependencies  ## ruff, clang-format, mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	git ls-files '*.cpp' '*.h' '*.cu' '*.cuh' | xargs $(BIN)/clang-format --dry-run --Werror
	$(BIN)/mypy

format: $(VENV)/.dependencies  ## rewrite sources in the house format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	git ls-files '*.cpp' '*.h' '*.cu' '*.cuh' | xargs $(BIN)/clang-format -i

bench: $(VENV)/.extension  ## op microbenchmarks; rows go to bench/results/
	$(BIN)/python -m bench.run

bench-engine: $(VENV)/.extension  ## the engine beside dense models, its parts, training steps; goes on where it stopped
	$(BIN)/python -m bench.engine
	$(BIN)/python -m bench.ablation
	$(BIN)/python -m bench.overhead
	$(BIN)/python -m bench.bench_train_step

bench-serve: $(VENV)/.extension  ## the server beside dense endpoints (15 minutes, a quiet machine)
	PYTHONPATH=python $(BIN)/python -m bench.serve.run

soak: $(VENV)/.extension  ## 100,000 requests to a server, every answer checked; fuzzing, mutants, kills, sanitizers (an hour)
	PYTHONPATH=python $(BIN)/python -m bench.serve.soak
	PYTHONPATH=python $(BIN)/python -m bench.serve.kills
	PYTHONPATH=python $(BIN)/python -m tests.soak.run 10

docs-tables: $(VENV)/.dependencies  ## regenerate numbers and plots in docs/ and README from bench/results/
	PYTHONPATH=python $(BIN)/python -m bench.plot
	PYTHONPATH=python $(BIN)/python -m bench.tables

reproduce: $(VENV)/.extension  ## the paper's tables and figures in docs/results/ from bench/glue/results/
	$(BIN)/lets reproduce all -o docs/results

emulate:  ## the CUDA kernels on the CPU: results, sanitizers, planted bugs (needs the headers of CUDA)
	@$(MAKE) --no-print-directory -j2 -C tests/cuda_emulation PYTHON=$(PYTHON)

traffic:  ## what the CUDA kernels move, counted in emulation; rows go to bench/results/emulated/
	@mkdir -p bench/results/emulated
	@$(MAKE) --no-print-directory -j2 -C tests/cuda_emulation traffic

cuda-check: $(VENV)/.extension  ## compile the CUDA kernels (no GPU needed): no spills, no new torch symbols
	$(BIN)/python tests/cuda_check/compile_kernels.py 80 90a
	$(BIN)/python tests/cuda_check/symbols.py lets_ext/_C.so

cuda-all:  ## compile the CUDA kernels for every architecture that is released
	$(PYTHON) tests/cuda_check/compile_kernels.py 80 86 89 90a 100 120+PTX

install-check:  ## pip install of an sdist, isolated, into a fresh environment that has PyTorch alone
	set -e; folder=$$(mktemp -d); trap "rm -rf $$folder" EXIT; bin=$$folder/env/bin; \
	$(PYTHON) -m venv $$folder/env; $$bin/pip install -q -r requirements/torch.txt setuptools; \
	$$bin/python -c "import sys; sys.path.insert(0, '_build'); import backend; backend.build_sdist('$$folder')"; \
	torch="ls -i $$folder/env/lib/python*/site-packages/torch/version.py"; before=$$($$torch); LETS_REQUIRE_EXT=1 $$bin/pip install -q $$folder/lets_ext-*.tar.gz; \
	test "$$before" = "$$($$torch)"; \
	cd $$folder; $$bin/pip check; $$bin/python -m lets_ext.env; $$bin/lets env > env.txt; \
	$$bin/lets ops --encoder minilm-l6 --policy g-2; \
	$$bin/python -c "from lets.recipes import load_recipe; import lets_ext; load_recipe('small')"

clean:  ## remove everything that was built, .venv included
	rm -rf build dist *.egg-info $(VENV) lets_ext/*.so

$(VENV)/.dependencies: requirements/torch.txt requirements/dev.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q -r requirements/torch.txt
	$(BIN)/pip install -q -r requirements/dev.txt
	touch $@

$(VENV)/.extension: $(VENV)/.dependencies $(NATIVE)
	LETS_REQUIRE_EXT=1 $(BIN)/pip install -q --no-build-isolation --no-deps -e .
	touch $@

$(VENV)/.ray: $(VENV)/.dependencies requirements/ray.txt
	$(BIN)/pip install -q --no-deps -r requirements/ray.txt
	touch $@

$(VENV)/.demo: $(VENV)/.dependencies requirements/demo.txt
	$(BIN)/pip install -q --no-deps -r requirements/demo.txt
	touch $@

# install, demo, test, test-fast, test-plain, lint, docs, dist, bench, bench-peers, campaign, fuzz, mutants,
# constraints, clean; .venv is created if missing.
# Requires Python 3.10, 3.11 or 3.12. To use another interpreter: make install PYTHON=/path/to/python3.11
PYTHON ?=
# Versions that the tests were run with. To install the newest that pyproject.toml admits: make install CONSTRAINTS=
CONSTRAINTS ?= tools/constraints.txt
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input --quiet --quiet
# Installs from a warm cache in a fraction of pip's time. To install with pip: make install UV=
UV ?= uv==0.13.9
comma := ,
# Without bytecode, which an environment may ask Python not to write, every command takes seconds longer.
LONG_IMPORTS := import mindspore.dataset, mindone.diffusers, scipy.stats, transformers, matplotlib.pyplot, hypothesis

.PHONY: install demo test test-fast test-plain lint docs dist bench bench-peers campaign fuzz mutants constraints clean

install: $(INSTALLED)

$(INSTALLED): pyproject.toml $(CONSTRAINTS)
	@test -x $(BIN)/python || $(MAKE) --no-print-directory $(BIN)/python
	@echo "Installing the dependencies in pyproject.toml into $(VENV): a minute or two the first time."
	@$(call install,.[demo$(comma)dev])
	@env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -c '$(LONG_IMPORTS)' > /dev/null 2>&1 || true  # compiles to bytecode
	@touch $@

# $(call install,WHAT): with uv from pip's index; with pip if uv is not there or fails.
define install
{ test -n "$(UV)" && $(PIP) install "$(UV)" && \
	index=$${PIP_INDEX_URL:-$$($(PIP) config get global.index-url 2>/dev/null || echo https://pypi.org/simple)} && \
	UV_DEFAULT_INDEX=$${UV_DEFAULT_INDEX:-$$index} $(BIN)/uv pip install --quiet --python $(BIN)/python \
		$(CONSTRAINTS:%=--constraint %) --editable "$(1)"; } \
	|| $(PIP) install $(CONSTRAINTS:%=--constraint %) --editable "$(1)"
endef

$(BIN)/python:
	@for python in $(PYTHON) python3.11 python3.12 python3.10 python3; do \
		"$$python" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null || continue; \
		if ! "$$python" -c 'import ensurepip, venv' 2>/dev/null; then \
			echo "$$python cannot create a virtual environment; on Debian: apt-get install python3-venv" >&2; exit 1; \
		fi; \
		echo "Creating $(VENV) with $$($$python --version)."; \
		exec "$$python" -m venv $(VENV); \
	done; \
	echo "No Python 3.10, 3.11 or 3.12 found: install one, or set PYTHON=/path/to/python." >&2; exit 1

demo: install
	@$(BIN)/latte demo

# Two processes, a file of tests at a time, in the order of tests/conftest.py.
TWO := -n 2 --dist loadfile --no-loadscope-reorder

test: install
	@$(BIN)/python -m pytest $(TWO)

test-fast: install
	@$(BIN)/python -m pytest $(TWO) -m "not slow"

# The tests that compute with a model, with MindSpore's operators alone: what Ascend runs.
test-plain: install
	@LATTE_KERNELS=off $(BIN)/python -m pytest $(TWO) -m "plain and not compiled" --ignore tests/core/doctor tests/core

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/vulture

# The documentation site, in build/site. Fails on any warning.
docs: install
	@$(call install,.[docs])
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet
	@echo "build/site/index.html"

bench: install
	@$(BIN)/latte bench --out bench.json

# The wheel and the source distribution, in dist/.
dist: install
	@rm -rf dist
	@$(BIN)/uv build --quiet --out-dir dist
	@ls dist/*

# Comparison with a plain PyTorch Latte (tests/peers/): about 20 minutes. Select with PEERS="--task train --size S/2".
PEERS_VENV := .venv-torch
TORCH := torch==2.13.0
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
PEERS ?=

bench-peers: install $(PEERS_VENV)/.installed
	@$(PEERS_VENV)/bin/python -m pytest -q -c /dev/null --noconftest -p no:cacheprovider tests/peers/check_goldens.py
	@mkdir -p runs
	@$(BIN)/python tests/peers/compare.py --torch $(PEERS_VENV)/bin/python --out runs/bench-peers.json $(PEERS)
ifeq ($(PEERS),)
	@$(BIN)/python tests/peers/bench_convert.py --torch-python $(PEERS_VENV)/bin/python
	@$(BIN)/python tests/peers/compare_command.py --torch $(PEERS_VENV)/bin/python
endif

$(PEERS_VENV)/.installed:
	@test -x $(PEERS_VENV)/bin/python || $(BIN)/python -m venv $(PEERS_VENV)
	@echo "Installing $(TORCH) for CPUs into $(PEERS_VENV)."
	@pip="$(PEERS_VENV)/bin/python -m pip --disable-pip-version-check --no-input --quiet"; \
		{ $$pip --retries 0 install --index-url $(TORCH_INDEX) $(TORCH) 2> /dev/null || $$pip install $(TORCH); } \
		&& $$pip install numpy safetensors pytest diffusers==0.42.1 transformers==5.24.0 accelerate sentencepiece protobuf imageio-ffmpeg imageio
	@touch $@

# The robustness campaign (docs/robustness.md): damaged files, failing machines, kills, signals, load. 15 minutes;
# as root, since it mounts small file systems. Select with CAMPAIGN="--only files".
CAMPAIGN ?=

campaign: install
	@$(BIN)/python tests/hostile $(CAMPAIGN)

fuzz: install
	@$(BIN)/python -m tests.core.checkpoints.fuzz --count 100000

# Mutation tests of the modules whose numbers matter most (tests/mutants/). Select with MUTANTS=diffusion.
MUTANTS ?=

mutants: install
	@$(PIP) install --editable ".[mutants]"
	@$(BIN)/python tests/mutants/run.py --only "$(MUTANTS)"

# Resolve the versions in $(CONSTRAINTS) again, for every supported Python and platform.
constraints: install
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.10 --extra demo --extra dev --extra docs --no-annotate --no-header \
		--upgrade pyproject.toml --output-file $(CONSTRAINTS)

clean:
	rm -rf $(VENV) .venv-3.* $(PEERS_VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis rank_0 kernel_meta
	find latte_cli tests -name __pycache__ -type d -prune -exec rm -rf {} +

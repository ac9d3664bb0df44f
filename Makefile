# install, demo, test, lint, bench, clean. Each makes .venv where it is missing; needs Python 3.10, 3.11 or 3.12.
# Another interpreter: make install PYTHON=/path/to/python3.11
PYTHON ?=
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input --quiet --quiet

.PHONY: install demo test lint bench clean

install: $(INSTALLED)

$(INSTALLED): pyproject.toml
	@test -x $(BIN)/python || $(MAKE) --no-print-directory $(BIN)/python
	@echo "Installing what pyproject.toml asks for into $(VENV): some minutes the first time."
	@$(PIP) install --editable ".[demo,dev]"
	@touch $@

$(BIN)/python:
	@for python in $(PYTHON) python3.11 python3.12 python3.10 python3; do \
		"$$python" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null || continue; \
		if ! "$$python" -c 'import ensurepip, venv' 2>/dev/null; then \
			echo "$$python cannot make a virtual environment; on Debian: apt-get install python3-venv" >&2; exit 1; \
		fi; \
		echo "Making $(VENV) with $$($$python --version)."; \
		exec "$$python" -m venv $(VENV); \
	done; \
	echo "No Python 3.10, 3.11 or 3.12 found: install one, or name it with PYTHON=/path/to/python." >&2; exit 1

demo: install
	@$(BIN)/python -m latte_cli.demo

test: install
	@$(BIN)/python -m pytest

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/vulture

bench: install
	@$(BIN)/latte bench --out bench.json

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis rank_0 kernel_meta
	find latte_cli tests -name __pycache__ -type d -prune -exec rm -rf {} +

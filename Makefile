# GNU make 3.81 is enough. Needs python3.11 or newer; everything else is set up here.
SHELL := /bin/sh
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/core-is-set-up
DEV_STAMP := $(VENV)/development-is-set-up
QUIET := BENTOML_DO_NOT_TRACK=True DO_NOT_TRACK=1 MLFLOW_DISABLE_TELEMETRY=true
LINT = $(BIN)/ruff check --quiet . && $(BIN)/ruff format --quiet --check . && $(BIN)/mypy --no-error-summary && \
	{ $(BIN)/lint-imports --no-logo > $(VENV)/imports.txt || { cat $(VENV)/imports.txt; exit 1; }; } && \
	$(BIN)/python -m tests.locks
SHARED = $(QUIET) OMP_NUM_THREADS=1# two workers keep two processors busy
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help setup demo test integration prove lint bench docs lock audit locks-are-fresh clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' Makefile

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "error: Python 3.11, 3.12 or 3.13 is needed. Hint: install one, or name it: make PYTHON=/path/to/python3.11" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/bin/uv: $(VENV)/bin/python
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@touch $@

$(STAMP): requirements/core.lock pyproject.toml $(VENV)/bin/uv
	@echo "installing what the demo needs (once)"
	@$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python -r requirements/core.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	@$(QUIET) $(BIN)/ethogram doctor
	@touch $@

$(DEV_STAMP): requirements/development.lock pyproject.toml $(VENV)/bin/uv
	@echo "installing what the tests need (once)"
	@$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python -r requirements/development.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $@

setup: $(STAMP) ## make the virtual environment

demo: $(STAMP) ## a shop from raw events to a served, judged segment (ARGS=--keep leaves it running, ARGS=loop: a change is planted, and mended)
	@$(QUIET) $(BIN)/ethogram demo $(ARGS)

test: $(DEV_STAMP) ## lint, and the quick suite meanwhile: no servers, no data needed
	@{ $(LINT); } & \
	$(SHARED) $(BIN)/python -m pytest -q -n 2 -m "not integration and not prove" $(ARGS); \
	told=$$?; wait $$! && exit $$told

integration: $(DEV_STAMP) ## real servers, the built Bento, real data from ETHOGRAM_DATA
	@$(SHARED) $(BIN)/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder -m integration $(ARGS)

prove: $(DEV_STAMP) ## the long proofs, seeded (hours)
	@$(QUIET) $(BIN)/python -m pytest -q -m prove --hypothesis-seed=0 $(ARGS)

lint: $(DEV_STAMP) ## ruff, mypy, import contracts, fresh locks
	@$(LINT)

bench: $(DEV_STAMP) ## every benchmark, about a minute each (ARGS=--json; without --small: python -m benchmarks.NAME)
	@for name in $$(ls benchmarks/*.py | xargs -n1 basename | sed 's/\.py//' | grep -v -e __init__ -e report -e servers); do \
		grep -q __main__ benchmarks/$$name.py || continue; echo "== $$name"; $(QUIET) $(BIN)/python -m benchmarks.$$name --small $(ARGS) || exit 1; done

docs: $(DEV_STAMP) ## run what the documentation shows
	@$(QUIET) $(BIN)/python -m pytest -q tests/test_docs.py $(ARGS)

lock: $(VENV)/bin/uv ## resolve the lock files from pyproject.toml
	@$(BIN)/python -m tests.locks --write

audit: $(VENV)/bin/uv ## look up the locked versions in the advisory databases (network)
	@for lock in core serving development; do $(BIN)/uv tool run pip-audit --strict --disable-pip --no-deps -r requirements/$$lock.lock || exit 1; done

clean: ## remove the environment, caches and the demo's folder
	rm -rf $(VENV) build demo-shop .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

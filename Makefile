# Each target does its whole set-up: a virtual environment in the clone, by uv where it is on the PATH, else by python3 and pip.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
BENCH := $(VENV)/.bench
DOCS := $(VENV)/.docs
POOLER := $(VENV)/pgbouncer/.ready
# Tests kill processes, never the power: where memory serves as a disk, their syncs cost nothing.
SCRATCH := $(shell test -w /dev/shm && echo TMPDIR=/dev/shm)
# Images for containers often set it. Here, each worker and each of hundreds of child processes would compile all it
# imports, and rewrite all assertions, once more.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo test lint quick collect check pythons bench docs build smoke frameworks format clean

help: ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  make \1\t\2/'

$(READY): pyproject.toml
	@if command -v uv >/dev/null 2>&1; then \
	  uv venv --quiet --allow-existing $(VENV) && uv pip install --quiet --python $(BIN)/python -e '.[dev]'; \
	else \
	  $(PYTHON) -m venv $(VENV) && $(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'; \
	fi
	@touch $(READY)

# A debian package: unpacked into the environment where apt can get it, which takes two seconds.
$(POOLER): scripts/get_pgbouncer.sh
	@scripts/get_pgbouncer.sh $(VENV)/pgbouncer

demo: $(READY) ## two processes, one file: notes that survive kill -9 (no server, 10 s)
	@$(BIN)/agent-messaging demo

# More workers than cores, because most tests wait for other processes, a server or a clock.
test: $(READY) $(POOLER) ## all tests on SQLite and PostgreSQL, with coverage
	@$(SCRATCH) $(BIN)/python -m pytest -q -n 4 --dist load --maxschedchunk 2 --cov --cov-report=term

lint: $(READY) ## format, lint, types, layers
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

quick: lint ## for the work between commits, in less than two minutes: lint, unit tests, conformance on SQLite
	@$(SCRATCH) $(BIN)/python -m pytest -q -n 4 --dist load --maxschedchunk 2 --backend sqlite tests/unit tests/conformance

# In a fresh clone the modules of the tests are rewritten and compiled once, beside the lint, and not by four workers
# at once. What is wrong with them the tests say themselves.
collect: $(READY)
	@$(BIN)/python -m pytest -q --collect-only >/dev/null || true

check: $(READY) ## what CI runs: format, lint, types, layers, tests
	@$(MAKE) --no-print-directory --jobs=2 lint collect
	@$(MAKE) --no-print-directory test

pythons: $(READY) ## a sample of the tests on each Python from 3.11 to 3.14 that is found here
	@$(SCRATCH) scripts/pythons.sh

# The extra has the name of the mark.
$(BENCH) $(DOCS): $(VENV)/.%: $(READY)
	@if command -v uv >/dev/null 2>&1; then \
	  uv pip install --quiet --python $(BIN)/python -e '.[dev,$*]'; \
	else \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev,$*]'; \
	fi
	@touch $@

bench: $(BENCH) ## every figure beside its raw limit or a peer, in the same run (ARGS="--runs 3 --json run.json")
	@$(BIN)/python -m benchmarks $(ARGS)

# Its fonts and its search are files of its own: a page asks no other server for anything.
docs: $(DOCS) ## the documentation as a site, in site/; a warning is an error
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

build: $(READY) ## the sdist and the wheel, in dist/
	@rm -rf dist
	@$(BIN)/python -m hatchling build -d dist

smoke: build ## wheel and sdist in clean environments, with each extra and each Python: they install, and the README's program runs
	@scripts/smoke.sh $(abspath $(BIN)/python)

# Each has an environment of its own below $(VENV), because their requirements do not get along in one.
frameworks: $(READY) ## the examples with LangGraph, pydantic-ai, OpenAI Agents, AutoGen, Flask, Celery (ARGS="langgraph")
	@$(BIN)/python scripts/run_frameworks.py $(ARGS)

format: $(READY) ## put the source in order
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

clean: ## remove the environment and everything built
	@rm -rf $(VENV) build dist site .pytest_cache .mypy_cache .ruff_cache .coverage .coverage.* htmlcov

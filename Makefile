# What a developer runs. Each target sets up .venv when it is missing or when pyproject.toml changed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
WORKERS ?= 2
MINUTES ?= 120
# modules are compiled when they are first imported: only a small part of what is installed ever is
PIP := $(BIN)/python -m pip install --quiet --no-compile
# where this is set, each of the processes that tests start would compile PyTorch anew, for seconds
unexport PYTHONDONTWRITEBYTECODE
export OMP_NUM_THREADS ?= 1
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.DEFAULT_GOAL := help
.PHONY: help quickstart test test-all test-distributed mutations faults fuzz lint docs clean

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(BIN)/python:
	@echo "== creating a virtual environment in $(VENV) with $(PYTHON)"
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml | $(BIN)/python
	@echo "== installing compnet3d and what it needs into $(VENV) (PyTorch is large: a few minutes the first time)"
	@$(PIP) --editable '.[viz]'
	@touch $@

$(VENV)/.installed-dev: pyproject.toml | $(BIN)/python
	@echo "== installing compnet3d with its test and lint tools into $(VENV) (a few minutes the first time)"
	@$(PIP) --editable '.[viz,dev]'
	@touch $@ $(VENV)/.installed

$(VENV)/.installed-fuzz: pyproject.toml | $(VENV)/.installed-dev
	@echo "== installing atheris into $(VENV)"
	@$(PIP) --editable '.[fuzz]'
	@touch $@

$(VENV)/.installed-docs: pyproject.toml | $(BIN)/python
	@echo "== installing what builds the pages into $(VENV)"
	@$(PIP) --editable '.[docs]'
	@touch $@

quickstart: $(VENV)/.installed  ## make data, train, evaluate and write runs/quickstart/report.html (7 to 10 minutes)
	@echo "== quickstart: data, training, evaluation and a report, in runs/quickstart"
	@env -u OMP_NUM_THREADS $(BIN)/compnet3d quickstart

test: $(VENV)/.installed-dev  ## run the fast tests
	@echo "== running the fast tests in $(WORKERS) processes"
	@$(BIN)/python -m pytest -q -m "not slow" -n $(WORKERS)

test-all: $(VENV)/.installed-dev  ## run every test, the slow ones too
	@echo "== running all tests in $(WORKERS) processes"
	@$(BIN)/python -m pytest -q -n $(WORKERS)

test-distributed: $(VENV)/.installed-dev  ## train on two hosts, as network namespaces (needs root)
	@echo "== two hosts, one cut off and one killed"
	@$(BIN)/python -m pytest -q tests/training/test_two_hosts.py

mutations: $(VENV)/.installed-dev  ## change the training on purpose, and name the faults that no test notices
	@echo "== one fault at a time, in copies, and the tests that should notice it"
	@$(BIN)/python tools/mutations.py

faults: $(VENV)/.installed-dev  ## kill, interrupt and starve commands, and compare what they make then (10 to 25 minutes)
	@echo "== one fault at a time, then the same command again"
	@$(BIN)/python tools/faults.py --jobs $(WORKERS)

fuzz: $(VENV)/.installed-fuzz  ## give every reader 100,000 broken files in MINUTES (120) at most
	@echo "== fuzzing the readers for $(MINUTES) minutes at most"
	@$(BIN)/python -m tools.fuzz --minutes $(MINUTES) --jobs $(WORKERS)

lint: $(VENV)/.installed-dev  ## check style (ruff) and types (mypy)
	@echo "== ruff: style"
	@$(BIN)/ruff check .
	@echo "== mypy: types"
	@$(BIN)/mypy

docs: $(VENV)/.installed-docs  ## build the pages into site/; a dead link is an error
	@echo "== building the pages into site/"
	@env NO_MKDOCS_2_WARNING=1 PATH=$(BIN):$$PATH $(BIN)/mkdocs build  # --quiet would hide dead links from --strict

clean:  ## remove the virtual environment and all caches (runs/ is kept)
	@echo "== removing $(VENV) and caches; runs/ is kept"
	@rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist site
	@find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

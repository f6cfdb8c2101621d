# understudy: what can be made here. `make` alone lists it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help setup demo test quick laws same check clean

help:  ## List the targets.
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  make \1\t\2/' | expand -t 16

setup: $(VENV)/.done  ## Make .venv and install understudy with all it needs (a few minutes, once).

$(VENV)/.done: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("understudy needs Python 3.11 or newer, this is " + sys.version.split()[0]) if sys.version_info < (3, 11) else None'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[demo,dev]'
	touch $@

demo: setup  ## Distil a real teacher on built-in data and show what was kept (about 5 minutes on two cores).
	$(BIN)/understudy demo

test: setup  ## Run the whole test suite, offline.
	$(BIN)/python -m pytest --numprocesses auto

quick: setup  ## Run the tests that need under a minute together.
	$(BIN)/python -m pytest --numprocesses auto -m 'not real and not long' tests/augmenters tests/data tests/evaluation tests/objectives tests/students

laws: setup  ## Train every recipe at its own length on a tiny task: none may fall behind the labels alone (about 15 minutes).
	$(BIN)/python -m pytest --numprocesses auto -m long

same: setup  ## Make three small runs and compare every number with those that are kept (about 2 minutes).
	$(BIN)/python tests/same.py

check: setup  ## Lint and type-check.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:  ## Remove what tools left behind; keeps .venv and runs.
	rm -rf .pytest_cache .mypy_cache .ruff_cache dist

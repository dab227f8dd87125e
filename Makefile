# The environment lives in $(VENV); it is made again when pyproject.toml or constraints.txt change.

PYTHON ?= python3
VENV ?= .venv
SEED ?= 0
PYTEST_ARGS ?=

STAMP := $(VENV)/.ready
RUN := $(VENV)/bin/python

.DEFAULT_GOAL := help
.PHONY: help env selfchain test clean

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' Makefile

env: $(STAMP)  ## set up the environment in .venv

selfchain: $(STAMP)  ## run every stage on the embedded world (SEED=N chooses another world)
	$(RUN) scripts/selfchain.py --seed $(SEED)

test: $(STAMP)  ## check style, then run the tests (PYTEST_ARGS="-k name" for some of them)
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m pytest -q -n auto $(PYTEST_ARGS)

clean:  ## remove the environment, builds and caches (runs/ and data/ stay)
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .hypothesis
	find sevila tests scripts -name __pycache__ -type d -prune -exec rm -rf {} +

$(STAMP): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || \
	  { echo "make: $(PYTHON) not found: install Python 3.11 or later (apt install python3 python3-venv)" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "make: $(PYTHON) is older than 3.11: name a newer one, as in make test PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo "make: $(PYTHON) cannot make environments: apt install python3-venv, then try again" >&2; exit 1; }
	@echo "Setting up $(VENV): about 1.5 GB to install, a minute or more."
	@$(PYTHON) -m venv $(VENV)
	@$(RUN) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $(STAMP)

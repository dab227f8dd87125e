# The environment lives in $(VENV); it is made again when pyproject.toml or constraints.txt change.

PYTHON ?= python3
VENV ?= .venv
SEED ?= 0
PYTEST_ARGS ?=

# The reference models of test-interop have an environment of their own, whose packages need Python 3.11.
INTEROP_PYTHON ?= $(PYTHON)
INTEROP := $(VENV)-interop

STAMP := $(VENV)/.ready
RUN := $(VENV)/bin/python
INTEROP_PIP := $(INTEROP)/bin/python -m pip install --quiet --disable-pip-version-check
INTEROP_NEEDS := $(wildcard tests/interop/requirements/*.txt)

.DEFAULT_GOAL := help
.PHONY: help env selfchain test test-interop clean

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' Makefile

env: $(STAMP)  ## set up the environment in .venv

selfchain: $(STAMP)  ## run every stage on the embedded world (SEED=N chooses another world)
	$(RUN) scripts/selfchain.py --seed $(SEED)

test: $(STAMP)  ## check style and types, then run the tests (PYTEST_ARGS="-k name" for some of them)
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy
	$(RUN) -m pytest -q -n auto $(PYTEST_ARGS)

test-interop: $(STAMP) $(INTEROP)/.ready  ## compare with LAVIS and timm, installed in an environment of their own
	rm -rf $(INTEROP)/outputs
	HF_HOME=$(INTEROP)/cache $(INTEROP)/bin/python tests/interop/lavis_reference.py $(INTEROP)/outputs
	HF_HOME=$(INTEROP)/cache PYTHONPATH=$(INTEROP)/timm $(INTEROP)/bin/python tests/interop/timm_reference.py $(INTEROP)/outputs
	$(RUN) tests/compare_interop.py $(INTEROP)/outputs

clean:  ## remove the environments, builds and caches (runs/ and data/ stay)
	rm -rf $(VENV) $(INTEROP) build dist .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find sevila tests scripts -name __pycache__ -type d -prune -exec rm -rf {} +

$(STAMP): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || \
	  { echo "make: $(PYTHON) not found: install Python 3.11 or later (apt install python3 python3-venv)" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "make: $(PYTHON) is older than 3.11: name a newer one, as in make test PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo "make: $(PYTHON) cannot make environments: apt install python3-venv, then try again" >&2; exit 1; }
	@$(PYTHON) -c 'import platform, sys; print("Setting up $(VENV) with Python", platform.python_version(), f"({sys.executable}):")'
	@echo "about 1.5 GB to install (5 GB where pip finds torch with CUDA only), a minute or more."
	@$(PYTHON) -m venv $(VENV)
	@$(RUN) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $(STAMP)

$(INTEROP)/.ready: $(INTEROP_NEEDS) constraints.txt
	@$(INTEROP_PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || \
	  { echo "make: test-interop needs Python 3.11: name one, as in make test-interop INTEROP_PYTHON=python3.11" >&2; \
	    exit 1; }
	@echo "Setting up $(INTEROP): about 1.3 GB to install, a minute or more."
	@rm -rf $(INTEROP)
	@$(INTEROP_PYTHON) -m venv $(INTEROP)
	@$(INTEROP_PIP) -c constraints.txt -r tests/interop/requirements/stack.txt
	@$(INTEROP_PIP) --no-deps -r tests/interop/requirements/lavis.txt
	@$(INTEROP_PIP) --no-deps --target $(INTEROP)/timm -r tests/interop/requirements/timm.txt
	@touch $(INTEROP)/.ready

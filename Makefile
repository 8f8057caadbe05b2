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
# Which images `make images` builds, as $(REGISTRY)/visor-IMAGE:$(TAG).
IMAGES ?= serving transformer training
REGISTRY ?= localhost
TAG ?= dev
# What `make deploy` serves: a release of charts/visor, by default of the archive that `make demo` made.
RELEASE ?= $(DATA)
NAMESPACE ?= demo
ARCHIVE ?=
HELM_ARGS ?=
# What `make loadtest` asks: HOST names the server to a gateway that has several. Set here, so that the environment's are not taken.
URL =
GRPC =
HOST =
MODEL =
LOOP = open
SHAPE = steady
RATE =
LOADTEST_ARGS =
BENCH_ARGS ?=
# Scripts that make a cluster where there is no Docker engine for kind, and where such a cluster keeps its kubectl, helm and
# kubeconfig, which are then used unless KUBECONFIG says otherwise.
STAND_IN ?= ../shared/cluster
STAND_IN_HOME := $(or $(CLUSTER_HOME),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/local-cluster)
ifneq ($(wildcard $(STAND_IN_HOME)/kubeconfig),)
export KUBECONFIG ?= $(STAND_IN_HOME)/kubeconfig
export PATH := $(STAND_IN_HOME)/bin/kubernetes:$(STAND_IN_HOME)/bin/addons:$(PATH)
endif

BIN := $(VENV)/bin
LOCKS := requirements/torch.txt requirements/visor.txt
SOURCES := handlers rollout training transformer visor loadtests tests docs/examples tools
SCRIPTS := .ci/run requirements/lock.sh requirements/setup.sh k8s/cluster k8s/install k8s/minikube k8s/put-archive tools/build \
  docker/build docker/install docker/trim

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
test: setup ## All tests but those on a cluster, with coverage of our packages (at least 90 %).
	@$(BIN)/coverage erase
	@$(BIN)/coverage run -m pytest $(PYTEST_ARGS)
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage report

.PHONY: e2e
e2e: setup ## The tests on a real cluster with KServe, two files at a time; `make cluster images` come first.
	@TAG="$(TAG)" $(BIN)/pytest tests/e2e --numprocesses 2 --dist loadscope --timeout 900 $(PYTEST_ARGS)

.PHONY: loadtest
loadtest: setup ## Load URL and GRPC (default: visor serve of the newest archive) and judge by loadtests/slo.yaml. HOST MODEL SHAPE RATE.
	@$(BIN)/python -m loadtests $(if $(URL),--url "$(URL)") $(if $(GRPC),--grpc "$(GRPC)") $(if $(HOST),--host-header "$(HOST)") \
	  $(if $(MODEL),--model "$(MODEL)") --loop "$(LOOP)" --shape "$(SHAPE)" $(if $(RATE),--rate "$(RATE)") $(LOADTEST_ARGS)

.PHONY: cluster
cluster: ## A cluster with KServe on this machine: kind's, or STAND_IN's where no Docker engine answers.
	@k8s/cluster "$(STAND_IN)"

.PHONY: images
images: ## Build IMAGES (serving transformer training) and load them into the local cluster that kubectl reaches, if one.
	@REGISTRY="$(REGISTRY)" TAG="$(TAG)" STAND_IN="$(STAND_IN)" TORCH_INDEX="$(TORCH_INDEX)" \
	  docker/build $$(kubectl get --raw /readyz >/dev/null 2>&1 && echo --load) $(IMAGES)

.PHONY: deploy
deploy: ## Serve ARCHIVE (default: RELEASE's newest, copied to the cluster) as RELEASE in NAMESPACE; more in HELM_ARGS.
	@archive="$(ARCHIVE)"; \
	[ -n "$$archive" ] || archive=$$(k8s/put-archive --namespace "$(NAMESPACE)" --image "$(REGISTRY)/visor-transformer:$(TAG)" "$(RELEASE)"); \
	helm upgrade --install "$(RELEASE)" charts/visor --namespace "$(NAMESPACE)" --create-namespace --wait --timeout 5m \
	  --set archive.uri="$$archive" --set-file archive.publicKey=keys/visor.pub \
	  --set images.serving.repository="$(REGISTRY)/visor-serving" --set images.serving.tag="$(TAG)" \
	  --set images.transformer.repository="$(REGISTRY)/visor-transformer" --set images.transformer.tag="$(TAG)" $(HELM_ARGS)
	@kubectl wait --for=condition=Ready --timeout 300s --namespace "$(NAMESPACE)" "inferenceservice/$(RELEASE)"

.PHONY: undeploy
undeploy: ## Remove RELEASE from NAMESPACE; its archives stay.
	@helm uninstall "$(RELEASE)" --namespace "$(NAMESPACE)" --ignore-not-found --wait

.PHONY: test-unit
test-unit: setup ## The tests that take seconds.
	@$(BIN)/pytest tests/unit $(PYTEST_ARGS)

.PHONY: bench
bench: setup ## visor beside the bare network and other servers on this machine, 20 min; flags in BENCH_ARGS.
	@$(BIN)/python -m loadtests.bench $(BENCH_ARGS)

.PHONY: lint
lint: setup lint-charts ## ruff, mypy --strict, shellcheck, helm lint and kubeconform; warnings are errors.
	@$(BIN)/ruff format --check $(SOURCES)
	@$(BIN)/ruff check $(SOURCES)
	@$(BIN)/mypy
	@$(BIN)/shellcheck $(SCRIPTS)

.PHONY: lint-charts
lint-charts: ## helm lint, and each object that a chart's ci/*-values.yaml renders against its kind's schema. Needs Go.
	@tools=$$(tools/build); \
	for values in charts/*/ci/*-values.yaml; do \
	  chart=$${values%/ci/*}; \
	  "$$tools/helm" lint --strict --quiet "$$chart" --values "$$values"; \
	  "$$tools/helm" template lint "$$chart" --values "$$values" | \
	    "$$tools/kubeconform" -strict -schema-location 'tools/schemas/{{.ResourceKind}}{{.KindSuffix}}.json'; \
	done

.PHONY: verify
verify: setup ## Make what is generated once more, and fail where it differs from what is committed.
	@$(MAKE) --no-print-directory proto chart-docs chart-schemas
	@git diff --exit-code -- transformer/open_inference.binpb charts tools/schemas

.PHONY: chart-docs
chart-docs: ## Each chart's README.md, from its README.md.gotmpl and values.yaml. Needs Go.
	@tools=$$(tools/build); \
	"$$tools/helm-docs" --log-level warning --chart-search-root charts --template-files README.md.gotmpl --sort-values-order file

.PHONY: chart-schemas
chart-schemas: setup ## tools/schemas/, from the CRDs of the pinned KServe, Gateway API and others. Needs Go.
	@$(BIN)/python tools/schemas.py

.PHONY: proto
proto: setup ## Compile the V2 interface, transformer/open_inference.proto.
	@$(BIN)/python -m grpc_tools.protoc -I transformer --descriptor_set_out transformer/open_inference.binpb open_inference.proto

.PHONY: lock
lock: setup ## Resolve pyproject.toml into requirements/*.txt; ARGS=--upgrade takes newer versions.
	@PATH="$$(cd $(BIN) && pwd):$$PATH" requirements/lock.sh $(ARGS)

.PHONY: clean
clean: ## Remove what was generated (runs, caches, the environment), but neither archives nor keys.
	@rm -rf runs .venv .mypy_cache .ruff_cache .pytest_cache .coverage .coverage.* .hypothesis build ./*.egg-info

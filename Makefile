# `make` alone prints this file's own help. VENV= names another environment, TORCH_INDEX= another index for torch.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# What is so on this machine alone, git-ignored: any variable below, and `export KUBECONFIG` or PATH.
-include local.mk

VENV ?= .venv
# Not empty: `make setup` moves VENV here where it runs the code of another checkout.
TAKE_OVER ?=
PYTHON ?= python3.11
DATA ?= roofs
# Keys of the config that `make demo` sets, such as data.leaks=warn, with blanks between them.
SET =
# Where torch and torchvision come from when not from PyPI: its Linux wheels bring several GB of CUDA libraries that
# nothing here needs; docs/install.md says how to get the CPU wheels.
TORCH_INDEX ?=
PYTEST_ARGS ?=
# How many tests run at a time, in processes of their own; a file's tests stay together, as they share what they were given.
WORKERS ?= 2
# Which images `make images` builds, as $(REGISTRY)/visor-IMAGE:$(TAG).
IMAGES ?= serving transformer training console loadtest
# A folder with the scripts `up`, `build-image` and `load-image`, for a machine where no Docker engine answers; local.mk's to set.
STAND_IN ?=
REGISTRY ?= localhost
TAG ?= dev
# What `make deploy` serves: a release of charts/visor, by default of the archive that `make demo` made.
RELEASE ?= $(DATA)
NAMESPACE ?= demo
ARCHIVE ?=
HELM_ARGS ?=
# An OpenPGP key by its name, in a keyring that `gpg --export-secret-keys` writes, and the file that holds its passphrase, if any.
SIGN ?=
KEYRING ?=
PASSPHRASE_FILE ?=
SIGNED = $(if $(SIGN),--sign "$(SIGN)" --keyring "$(KEYRING)") $(if $(PASSPHRASE_FILE),--passphrase-file "$(PASSPHRASE_FILE)")
# The addresses of the servers that `make console` is in front of, with commas between them.
SERVERS ?=
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

BIN := $(VENV)/bin
TESTS = $(BIN)/coverage run -m pytest --numprocesses $(WORKERS) --dist loadfile
E2E = TAG="$(TAG)" STAND_IN="$(STAND_IN)" $(BIN)/pytest tests/e2e --numprocesses 2 --dist loadscope --timeout 900
# What `make verify` makes once more.
GENERATED := docs/config.md docs/edge.md docs/metrics.md docs/errors.md docs/console-api.md docs/python-api.md docs/promises.md \
  transformer/grpc/open_inference.binpb charts docker/prometheus tools/schemas
LOCKS := requirements/torch.txt requirements/visor.txt
SOURCES := archives console drawing handlers rollout training transformer visor watch loadtests tests docs/examples tools docker/pin docker/sbom docker/strip
SCRIPTS := .ci/run requirements/lock.sh requirements/setup.sh k8s/cluster k8s/install k8s/minikube k8s/put-archive tools/build \
  docker/build docker/install docker/trim tests/e2e/images/operators/build tools/package tools/publish

.PHONY: help
help: ## Print this help.
	@awk 'BEGIN { FS = ":.*## " } /^[a-z0-9-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: setup
setup: ## Make the environment in VENV (default .venv), and install Java 17 where apt and root allow it.
	@VENV="$(VENV)" PYTHON="$(PYTHON)" TORCH_INDEX="$(TORCH_INDEX)" TAKE_OVER="$(TAKE_OVER)" requirements/setup.sh

.PHONY: demo
demo: setup ## The main job on real parts: DATA=roofs (default), digits or a FOLDER of labelled images; SET=KEY=VALUE.
	@$(BIN)/visor demo --data "$(DATA)"$(foreach one,$(SET), --set "$(one)")

.PHONY: test-unit
test-unit: setup ## The tests without processes, MLflow or exports: a few minutes.
	@$(BIN)/coverage erase
	@$(TESTS) tests/unit $(PYTEST_ARGS)

# `make --assume-old test-unit test` goes on after `make test-unit`, whose coverage counts. The charts' tools are compiled before
# the tests want them, which have no minutes for that, and there are two at a time.
# Files come in tests/integration/conftest.py's order, and not, as xdist would have it, those of the fewest tests last.
.PHONY: test
test: test-unit ## All tests but those on a cluster, with coverage of our packages (at least 90 %).
	@tools/build >/dev/null && tools/build registry >/dev/null
	@$(TESTS) --no-loadscope-reorder tests/charts tests/integration $(PYTEST_ARGS)
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage report

.PHONY: alerts-test
alerts-test: setup prometheus ## The chart's alerts by promtool: each one fires when it has to, and is silent else. Needs Go, for helm.
	@$(BIN)/pytest tests/charts/test_alerts.py tests/unit/watch $(PYTEST_ARGS)

.PHONY: prometheus
prometheus: ## A Prometheus with promtool, for make watch and the tests of alerts and queries; by apt, which needs root.
	@command -v promtool >/dev/null || \
	  { apt-get update -qq && apt-get install -y -qq --no-install-recommends prometheus; } >/dev/null

.PHONY: watch
watch: setup ## Prometheus beside the visor serve at TARGETS (default 127.0.0.1:8080), with alerts and a page: docs/watch.md
	@$(BIN)/python -m tools.watch $(TARGETS) $(ARGS)

.PHONY: console
console: setup ## The console at http://127.0.0.1:8090, in front of the servers at SERVERS (default http://127.0.0.1:8080): docs/console.md
	@$(BIN)/visor console serve $(if $(SERVERS),--servers "$(SERVERS)") $(ARGS)

.PHONY: browser
browser: ## A Chromium for the tests of pages, which are left out without one; by apt, which needs root.
	@command -v chromium-headless-shell >/dev/null || command -v chromium >/dev/null || \
	  { apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium-headless-shell; } >/dev/null

.PHONY: postgres
postgres: ## A PostgreSQL for the tests of databases, which are left out without one; by apt, which needs root.
	@ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || command -v initdb >/dev/null || \
	  { apt-get update -qq && apt-get install -y -qq --no-install-recommends postgresql; } >/dev/null

.PHONY: soak
soak: export SOAK := 1
soak: demo test ## make demo, and make test with all its volume: 10,000 hostile requests, every network, 1,000 examples a property.

.PHONY: e2e
e2e: setup ## The tests on a real cluster with KServe, two files at a time; `make cluster images` come first.
	@$(E2E) -m "not full" $(PYTEST_ARGS)

# CI has no minutes for these.
.PHONY: e2e-full
e2e-full: setup ## make e2e, and what takes longer, on KEDA and Prometheus's operator, too. Needs Go, which compiles them once.
	@STAND_IN="$(STAND_IN)" docker/build --load operators
	@$(E2E) $(PYTEST_ARGS)

.PHONY: loadtest
loadtest: setup ## Load URL and GRPC (default: visor serve of the newest archive) and judge by loadtests/slo.yaml. HOST MODEL SHAPE RATE.
	@$(BIN)/python -m loadtests $(if $(URL),--url "$(URL)") $(if $(GRPC),--grpc "$(GRPC)") $(if $(HOST),--host-header "$(HOST)") \
	  $(if $(MODEL),--model "$(MODEL)") --loop "$(LOOP)" --shape "$(SHAPE)" $(if $(RATE),--rate "$(RATE)") $(LOADTEST_ARGS)

.PHONY: cluster
cluster: ## A cluster with KServe on this machine: kind's, or STAND_IN's where no Docker engine answers.
	@k8s/cluster "$(STAND_IN)"

.PHONY: images
images: ## Build IMAGES (serving transformer training console loadtest) and load them into the local cluster that kubectl reaches, if one.
	@REGISTRY="$(REGISTRY)" TAG="$(TAG)" STAND_IN="$(STAND_IN)" TORCH_INDEX="$(TORCH_INDEX)" \
	  docker/build $$(kubectl get --raw /readyz >/dev/null 2>&1 && echo --load) $(IMAGES)

# Not `helm upgrade --wait`, which compares generations that differ for ever once a scaler has moved: docs/kubernetes.md#waiting.
.PHONY: deploy
deploy: setup ## Serve ARCHIVE (default: RELEASE's newest, copied to the cluster) as RELEASE in NAMESPACE; more in HELM_ARGS.
	@archive="$(ARCHIVE)" digest=; \
	if [ -z "$$archive" ]; then \
	  put=$$(k8s/put-archive --namespace "$(NAMESPACE)" --image "$(REGISTRY)/visor-transformer:$(TAG)" "$(RELEASE)"); \
	  { read -r archive; read -r digest; } <<<"$$put"; \
	fi; \
	helm upgrade --install "$(RELEASE)" charts/visor --namespace "$(NAMESPACE)" --create-namespace \
	  --set archive.uri="$$archive" --set-string archive.digest="$$digest" --set-file archive.publicKey=keys/visor.pub \
	  --set images.serving.repository="$(REGISTRY)/visor-serving" --set images.serving.tag="$(TAG)" \
	  --set images.transformer.repository="$(REGISTRY)/visor-transformer" --set images.transformer.tag="$(TAG)" $(HELM_ARGS); \
	$(BIN)/python -m rollout wait "$(RELEASE)" --namespace "$(NAMESPACE)"

.PHONY: undeploy
undeploy: ## Remove RELEASE from NAMESPACE; its archives stay.
	@helm uninstall "$(RELEASE)" --namespace "$(NAMESPACE)" --ignore-not-found --wait

.PHONY: package
package: ## The charts as build/charts/NAME-VERSION.tgz; SIGN=KEY KEYRING=FILE sign them. Needs Go.
	@REGISTRY="$(REGISTRY)" tools/package $(SIGNED)

.PHONY: publish
publish: ## Push IMAGES, as `make images` built them, and the charts to REGISTRY, and print digests. SIGN, KEYRING as for package.
	@TAG="$(TAG)" IMAGES="$(IMAGES)" tools/publish $(SIGNED) "$(REGISTRY)"

.PHONY: bench
bench: setup ## visor beside the bare network and other servers on this machine, 20 min; flags in BENCH_ARGS.
	@$(BIN)/python -m loadtests.bench $(BENCH_ARGS)

.PHONY: lint
lint: setup lint-charts lint-files ## ruff, import contracts, mypy --strict, shellcheck, helm lint, actionlint and more; warnings are errors.
	@$(BIN)/ruff format --check $(SOURCES)
	@$(BIN)/ruff check $(SOURCES)
	@said=$$($(BIN)/lint-imports --no-logo --no-cache 2>&1) || { echo "$$said"; exit 1; } # pyproject.toml's contracts
	@$(BIN)/mypy
	@$(BIN)/mypy --scripts-are-modules docker/pin docker/sbom docker/strip
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

# The second call fills in what .env.example says: it has to be what compose.yaml says without it.
.PHONY: lint-files
lint-files: ## docker/compose.yaml by compose-go, with docker/.env.example and without, and .github/workflows by actionlint. Needs Go.
	@checks=$$(tools/build checks)/checks; \
	"$$checks" workflow .github/workflows/*.yml; \
	alone=$$("$$checks" compose docker/compose.yaml); \
	diff <(echo "$$alone") <("$$checks" compose --env-file docker/.env.example docker/compose.yaml)

.PHONY: verify
verify: setup ## Make what is generated once more, and fail where it differs from what is committed.
	@$(MAKE) --no-print-directory pages proto chart-watch chart-docs chart-schemas
	@git diff --exit-code -- $(GENERATED) || { \
	  echo "verify: these files are generated and were not what the code says; they are written anew, commit them" >&2; exit 1; }

.PHONY: pages
pages: setup ## The pages of docs/ that are made of the code: config, edge, metrics, errors, APIs; and promises.
	@$(BIN)/python -m tools.pages

.PHONY: docs
docs: setup ## The documentation's site, build/site: read it from the file system, or serve the folder. Warnings are errors.
	@$(BIN)/python -m tools.site

.PHONY: chart-docs
chart-docs: ## Each chart's README.md, from its README.md.gotmpl and values.yaml, and visor's defaults.yaml. Needs Go.
	@sed '/^ *#/d; /^$$/d' charts/visor/values.yaml >charts/visor/defaults.yaml
	@tools=$$(tools/build); \
	"$$tools/helm-docs" --log-level warning --chart-search-root charts --template-files README.md.gotmpl --sort-values-order file

.PHONY: chart-watch
chart-watch: setup ## Dashboards and alerts of chart visor, and docker/prometheus, from the package watch.
	@$(BIN)/python -m tools.watch_files

.PHONY: chart-schemas
chart-schemas: setup ## tools/schemas/, from the CRDs of the pinned KServe, Gateway API and others. Needs Go.
	@$(BIN)/python tools/schemas.py

.PHONY: proto
proto: setup ## Compile the V2 interface, transformer/grpc/open_inference.proto.
	@$(BIN)/python -m grpc_tools.protoc -I transformer/grpc --descriptor_set_out transformer/grpc/open_inference.binpb open_inference.proto

.PHONY: lock
lock: setup ## Resolve pyproject.toml into requirements/*.txt; ARGS=--upgrade takes newer versions.
	@PATH="$$(cd $(BIN) && pwd):$$PATH" requirements/lock.sh $(ARGS)

.PHONY: clean
clean: ## Remove what can be made again: caches, build and the environment; runs, registry, archives and keys stay.
	@rm -rf runs/cache .venv .mypy_cache .ruff_cache .pytest_cache .coverage .coverage.* .hypothesis build ./*.egg-info

# Not a part of clean: every archive's digests lead to a run and its data, and the registry knows the champion.
.PHONY: clean-all
clean-all: ## Remove runs with MLflow's registry, and the model store, too, after asking (YES=1 does not ask). Keys stay.
	@if [ -z "$(YES)" ]; then \
	  echo "This removes for good, below $$PWD:"; \
	  echo "  runs         $$(find runs -mindepth 2 -maxdepth 2 -name run.json 2>/dev/null | wc -l) run(s), and the registry with its champion"; \
	  echo "  model-store  $$(find model-store -name '*.mar' 2>/dev/null | wc -l) archives"; \
	  read -r -p "Type yes to go on: " answer || true; \
	  [ "$${answer:-}" = yes ] || { echo "clean-all: nothing was removed" >&2; exit 1; }; \
	fi
	@$(MAKE) --no-print-directory clean
	@rm -rf runs
	@find model-store -mindepth 1 -maxdepth 1 -type d -exec rm -rf {} + 2>/dev/null || true

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules --no-print-directory

PYTHON ?= python3
UV := .uv/bin/uv
PY := .venv/bin/python
CODE := $(CURDIR)/operator:$(CURDIR)/runner-image:$(CURDIR)
CLUSTER_NAME ?= crewrun
IMAGES := build/images
EXTRAS := anthropic azure bedrock gemini mcp memory tools
DEVCLUSTER = $(PY) -m devcluster
export PYTHONPATH := $(CODE)

##@ The two commands
demo: install ## Start a cluster, install CrewRun, run the example crew, show its result
	@$(PY) examples/research/demo.py --name $(CLUSTER_NAME)

test: lint verify unit runner-test integration e2e ## Everything: lint, types, unit, integration, end to end

##@ Inner loop
lint: .venv/.synced ## Style, types, and who may import whom
	@echo "== lint"
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy
	@.venv/bin/lint-imports --no-logo

format: .venv/.synced ## Put the code in its style
	@.venv/bin/ruff check --fix-only -q .
	@.venv/bin/ruff format .

unit: .venv/.synced ## Unit tests (seconds)
	@echo "== unit"
	@.venv/bin/pytest tests/unit -q

runner-test: .venv/.synced .venv-runner/.synced ## The runner with the real crewai, against the scripted LLM
	@echo "== runner, with crewai"
	@.venv/bin/pytest tests/runner -q -n 2

extras-test: .venv/.synced .venv-runner-mcp/.synced .venv-runner-memory/.synced ## The same with the extras mcp and memory (600 MB)
	@echo "== runner, with extras"
	@.venv/bin/pytest tests/extras -q

integration: .venv/.synced .venv-release/.synced ## A real API server, no node: CRDs, operator, 200 runs with kwok
	@echo "== integration"
	@.venv/bin/pytest tests/integration -v

e2e: install ## A real kubelet: Pods, Secrets, failures, kills
	@echo "== end to end"
	@KUBECONFIG=$$($(DEVCLUSTER) kubeconfig --name $(CLUSTER_NAME)) .venv/bin/pytest tests/e2e -v

run: .venv/.synced ## The operator on this machine, against the cluster of `make cluster`
	@KUBECONFIG=$$($(DEVCLUSTER) kubeconfig --name $(CLUSTER_NAME)) \
	  CREWRUN_RUNNER_IMAGE=localhost/crewrun-runner:dev CREWRUN_HTTP_HOST=127.0.0.1 $(PY) -m crewrun_operator

bench-runner: .venv/.synced .venv-runner/.synced .venv-crewai/.synced ## Start, memory and size of the runner, into docs/benchmarks.md
	@$(PY) -m tests.bench

bench: .venv/.synced ## The operator on a control plane, beside the least that one must do, into docs/benchmarks.md
	@$(PY) -m tests.bench.operator

bench-check: .venv/.synced ## Fail when the last `make bench` breaks a limit of tests/bench/operator/limits.yaml
	@$(PY) -m tests.bench.operator check

##@ Cluster
cluster: .venv/.synced ## Start the development cluster, or find it ready
	@$(DEVCLUSTER) up --name $(CLUSTER_NAME)

image: $(IMAGES)/runner.tar $(IMAGES)/operator.tar $(IMAGES)/testing.tar ## Build the three images

extras: $(EXTRAS:%=$(IMAGES)/runner-%.tar) ## Build the runner images with one extra each: anthropic, mcp, memory ...

install: cluster image ## Load the images and install the chart
	@$(DEVCLUSTER) load --name $(CLUSTER_NAME) $(IMAGES)/runner.tar $(IMAGES)/operator.tar $(IMAGES)/testing.tar
	@$(PY) -m devcluster.install --name $(CLUSTER_NAME) --operator-archive $(IMAGES)/operator.tar

demo-down: .venv/.synced ## Remove the cluster and all that the demo made
	@$(DEVCLUSTER) down --name $(CLUSTER_NAME)

##@ Release
# ONLY="operator testing" builds these alone, PLATFORMS=linux/amd64,linux/arm64 needs Docker, BASE names another base.
version: .venv/.synced ## Print the tag of this commit: VERSION if it is tagged so, else VERSION-gSHA
	@$(PY) -m release version

release-check: .venv/.synced ## Fail unless this commit, unchanged, is tagged vVERSION
	@$(PY) -m release check

images: .venv/.synced ## The images of this commit as archives in build/release, labelled and reproducible
	@$(PY) -m release images $(ONLY) $(RELEASE_FLAGS)

sbom: .venv/.synced .venv-release/.synced ## Bills of materials of the images in build/sbom, from the locks
	@$(PY) -m release sbom $(ONLY)

chart: .venv/.synced ## The chart of this commit in build/charts, with its digest
	@$(PY) -m release chart

push: .venv/.synced ## Push images for amd64 and arm64, and the chart: for the release workflow
	@$(PY) -m release push $(ONLY) $(RELEASE_FLAGS)

sign: .venv/.synced ## Sign what was pushed with cosign, and attest the bills: for the release workflow
	@$(PY) -m release sign
RELEASE_FLAGS = $(if $(PLATFORMS),--platforms $(PLATFORMS)) $(if $(REGISTRY),--registry $(REGISTRY))

##@ Generated files
generate: .venv/.synced ## Write CRDs and the field reference from the models
	@$(PY) -m crewrun_api.generate
	@$(PY) -m crewrun_operator.metrics_reference
	@$(PY) -m charts.generate

verify: .venv/.synced ## Fail when a generated file is not what the models say, chart or workflows do not lint, or a CRD takes less
	@echo "== verify"
	@$(PY) -m crewrun_api.generate --check
	@$(PY) -m crewrun_operator.metrics_reference --check
	@$(PY) -m charts.generate --check
	@$(PY) -m devcluster.compatibility
	@$$($(DEVCLUSTER) tool helm) lint --strict --quiet charts/crewrun
	@$$($(DEVCLUSTER) tool actionlint) -shellcheck= -pyflakes= .github/workflows/*.yaml

lock: .venv/.synced ## Lock every requirement with its hashes
	@echo "uv>=0.9,<1" | $(UV) pip compile - $(LOCK) -o requirements/uv.txt
	@$(UV) pip compile pyproject.toml --extra operator --extra testing --group dev $(LOCK) -o requirements/dev.txt
	@$(UV) pip compile pyproject.toml --extra operator -c requirements/dev.txt $(LOCK) -o requirements/operator.txt
	@$(UV) pip compile pyproject.toml --extra runner --excludes runner-image/excludes.txt --overrides runner-image/overrides.txt $(LOCK) -o requirements/runner.txt
	@for extra in $(EXTRAS); do \
	  $(UV) pip compile pyproject.toml --extra runner --extra runner-$$extra -c requirements/runner.txt \
	    --excludes <($(PY) runner-image/excludes.py $$extra) --overrides runner-image/overrides.txt $(LOCK) \
	    -o requirements/runner-$$extra.txt; \
	done
	@grep -o '^crewai==[0-9.]*' requirements/runner.txt | $(UV) pip compile - $(LOCK) -o requirements/bench.txt
	@$(UV) pip compile pyproject.toml --extra testing -c requirements/dev.txt $(LOCK) -o requirements/testing.txt
	@$(UV) pip compile --group release $(LOCK) -o requirements/release.txt
LOCK := --universal --python-version 3.11 --generate-hashes --no-header --quiet

##@ Housekeeping
clean: ## Remove environments and build output; the cluster and the cache stay
	@rm -rf .venv .venv-runner .venv-runner-* .venv-crewai .uv build

help: ## This list
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-z0-9-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo test lint format unit runner-test extras-test integration e2e run bench bench-check bench-runner cluster image extras install demo-down version release-check images sbom chart push sign generate verify lock clean help FORCE

# A bare Debian has no venv module: when root, its package is installed; otherwise the message names it.
$(UV): requirements/uv.txt
	@echo "== installing uv"
	@rm -rf .uv
	@$(PYTHON) -m venv .uv >/dev/null || { rm -rf .uv; apt-get update -q && apt-get install -q -y python3-venv && $(PYTHON) -m venv .uv; }
	@.uv/bin/pip install --quiet --require-hashes -r requirements/uv.txt
	@touch $@

# The packages are staged for the Python of the base image; building itself needs no network.
$(IMAGES)/%.tar: FORCE .venv/.synced
	@base=$$($(DEVCLUSTER) base-image); \
	case $$base in python:*) version=$${base#python:}; version=$${version%%-*};; *) version=3.11;; esac; \
	$(PY) runner-image/stage.py $* --python-version $$version --output build/context/$*; \
	$(DEVCLUSTER) build-image --file build/context/$*/Dockerfile --context build/context/$* \
	  --tag $$(echo localhost/crewrun-$*:dev | sed 's,runner-\(.*\):dev,runner:dev-\1,') --build-arg BASE=$$base --output $@
FORCE:

.venv/.synced: requirements/dev.txt $(UV)
	@echo "== installing the development environment"
	@$(UV) venv --quiet --clear --python $(PYTHON) .venv
	@$(UV) pip sync --quiet --python .venv --require-hashes requirements/dev.txt
	@touch $@

.venv-runner/.synced: requirements/runner.txt $(UV)
	@echo "== installing the runner's packages, for its tests with crewai"
	@$(UV) venv --quiet --clear --python $(PYTHON) .venv-runner
	@$(UV) pip sync --quiet --python .venv-runner --require-hashes requirements/runner.txt
	@touch $@

.venv-runner-%/.synced: requirements/runner-%.txt $(UV)
	@echo "== installing the runner's packages with the extra $*"
	@$(UV) venv --quiet --clear --python $(PYTHON) .venv-runner-$*
	@$(UV) pip sync --quiet --python .venv-runner-$* --require-hashes requirements/runner-$*.txt
	@touch $@

.venv-crewai/.synced: requirements/bench.txt $(UV)
	@echo "== installing crewai as it comes, to compare with"
	@$(UV) venv --quiet --clear --python $(PYTHON) .venv-crewai
	@$(UV) pip sync --quiet --python .venv-crewai --require-hashes --compile-bytecode requirements/bench.txt
	@touch $@

.venv-release/.synced: requirements/release.txt $(UV)
	@echo "== installing the tools of a release"
	@$(UV) venv --quiet --clear --python $(PYTHON) .venv-release
	@$(UV) pip sync --quiet --python .venv-release --require-hashes requirements/release.txt
	@touch $@

# One command each. Everything lives in .venv/ and .fomofeed/; both can be thrown away.
#   make demo [IMAGE=photo.jpg]   sets up, starts the seven servers, analyses a photo, stops them
#   make test | test-extras | prove | bench | plots | lint | gpu-check
#   make protos | lock | clean

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAGE := .ci/stage
EXTRAS := $(VENV)/extras
QUIET := --quiet --disable-pip-version-check --no-input
PIP := $(BIN)/pip $(QUIET)
HASHED := $(PIP) install --require-hashes -r

# Files whose change makes a stamp stale. Folders are listed too, so that a removed file counts.
PROTOS := $(shell find protos -mindepth 1) # not the folder itself: that is the name of a target
BUILDERS := $(wildcard services/*/build.py services/*/convert.py services/*/manifests services/*/manifests/*.yaml)
OVERLAYS := $(wildcard k8s/overlays/*)

PHOTOS := .fomofeed/photos/.written
MODELS := .fomofeed/models/.pulled
IMAGE ?=
comma := ,
DEMO_USER ?= 12
CAPTION ?= $(if $(IMAGE),,First cup of the day)
TAGS ?= $(if $(IMAGE),,coffee$(comma)morning)

.PHONY: demo test test-extras prove bench plots lint protos lock gpu-check clean models photos
.NOTPARALLEL:

demo: $(VENV)/.project $(MODELS) $(if $(IMAGE),,$(PHOTOS))
	@$(BIN)/fomofeed demo $(if $(IMAGE),"$(IMAGE)") --user $(DEMO_USER) --caption "$(CAPTION)" --tags "$(TAGS)"

test: $(VENV)/.project $(VENV)/.test $(MODELS) $(PHOTOS)
	@OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest

# Tests of what optional packages bring: Torch, OpenVINO, PostgreSQL, the reference of CLIP.
test-extras: $(VENV)/.project $(VENV)/.test $(VENV)/.extras $(MODELS) $(PHOTOS)
	@OPENBLAS_NUM_THREADS=1 $(EXTRAS)/bin/python -m pytest -m "extras and not prove and not gpu"

prove: $(VENV)/.project $(VENV)/.test $(VENV)/.lint $(MODELS) $(PHOTOS)
	@OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest -m "prove and not extras"
	@if [ -e $(VENV)/.extras ]; then OPENBLAS_NUM_THREADS=1 $(EXTRAS)/bin/python -m pytest -m "prove and extras"; \
	else echo "without $(EXTRAS)/: make test-extras makes it, and the proofs that need it run here"; fi

gpu-check: $(VENV)/.project $(VENV)/.test $(VENV)/.extras
	@if [ -e /dev/nvidiactl ]; then \
		$(EXTRAS)/bin/pip install $(QUIET) torchvision==0.28.0 && $(EXTRAS)/bin/python -m pytest -m gpu && \
		$(EXTRAS)/bin/python bench/gpu_serving.py && $(EXTRAS)/bin/python bench/clip_gpu.py; \
	else echo "no CUDA device on this machine: nothing was checked"; fi

bench: $(VENV)/.project $(MODELS) $(PHOTOS)
	@for question in $(filter-out bench/gpu_serving.py bench/clip_gpu.py bench/clip_engines.py,$(wildcard bench/[a-z]*.py)); do OPENBLAS_NUM_THREADS=1 $(BIN)/python "$$question"; done

# From the tables that `make bench` wrote; draws, does not measure again.
plots: $(VENV)/.project
	@OPENBLAS_NUM_THREADS=1 $(BIN)/python bench/plots.py

lint: $(VENV)/.project $(VENV)/.lint
	@$(STAGE) "ruff format" $(BIN)/ruff format --check .
	@$(STAGE) "ruff check" $(BIN)/ruff check .
	@$(STAGE) "mypy --strict" $(BIN)/mypy
	@$(STAGE) "buf lint" $(BIN)/buf lint protos
	@$(STAGE) "buf format" $(BIN)/buf format -d --exit-code protos
	@for overlay in $(OVERLAYS); do $(STAGE) "$$overlay" .ci/kustomize $(BIN) "$$overlay"; done

protos: $(VENV)/.run
	@$(STAGE) "generate gen/ from protos/" $(BIN)/python hatch_build.py

models: $(MODELS)
photos: $(PHOTOS)

# Pins with hashes and without the address of any registry; uv is used here and nowhere else.
COMPILE = $(VENV)/lock/bin/uv pip compile --quiet --upgrade --generate-hashes --no-header --no-annotate \
	--python-version 3.11 --extra cpu --extra build --extra protos
lock: $(VENV)/bin/python
	@$(STAGE) "install uv" bash -c '$(PYTHON) -m venv $(VENV)/lock && $(VENV)/lock/bin/pip install -q uv==0.13.8'
	@$(STAGE) "requirements/run.txt" $(COMPILE) pyproject.toml -o requirements/run.txt
	@$(STAGE) "requirements/test.txt" $(COMPILE) --extra test -c requirements/run.txt pyproject.toml -o requirements/test.txt
	@$(STAGE) "requirements/lint.txt" $(COMPILE) --extra test --extra lint -c requirements/test.txt pyproject.toml -o requirements/lint.txt
	@$(STAGE) "requirements/extras.txt" $(COMPILE) --extra test --extra test-extras -c requirements/test.txt pyproject.toml -o requirements/extras.txt

clean:
	rm -rf $(VENV) .fomofeed gen gen.new build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# --- set-up, each done once and again only when what it came from has changed

$(VENV)/bin/python:
	@.ci/python "$(PYTHON)"
	@$(STAGE) "make $(VENV)/" $(PYTHON) -m venv $(VENV)

$(VENV)/.run: requirements/run.txt | $(VENV)/bin/python
	@$(STAGE) "install what the servers run on" $(HASHED) $<
	@touch $@

$(VENV)/.test: requirements/test.txt $(VENV)/.run
	@$(STAGE) "install what the tests need" $(HASHED) $<
	@touch $@

$(VENV)/.lint: requirements/lint.txt $(VENV)/.run
	@$(STAGE) "install what the linters need" $(HASHED) $<
	@touch $@

# Sees the packages of .venv/ beside its own. Torch has no hashes here: which build it is differs.
$(VENV)/.extras: requirements/extras.txt $(VENV)/.test
	@$(STAGE) "make $(EXTRAS)/" $(PYTHON) -m venv $(EXTRAS)
	@$(BIN)/python -c 'import sysconfig; print("import site; site.addsitedir(%r)" % sysconfig.get_path("purelib"))' \
		> "$$($(EXTRAS)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/parent.pth"
	@$(STAGE) "install Torch" $(EXTRAS)/bin/pip install $(QUIET) torch==2.13.0
	@$(STAGE) "install what the extra tests need" $(EXTRAS)/bin/pip install $(QUIET) --require-hashes -r $<
	@touch $@

# The editable install runs hatch_build.py, which writes gen/.
$(VENV)/.project: pyproject.toml hatch_build.py $(PROTOS) $(VENV)/.run $(if $(wildcard gen),,gen-missing)
	@$(STAGE) "generate gen/, install the project" env PATH="$(CURDIR)/$(BIN):$$PATH" \
		$(PIP) install --no-build-isolation --no-deps -e .
	@touch $@

.PHONY: gen-missing
gen-missing:

$(MODELS): $(BUILDERS) | $(VENV)/.project
	@$(BIN)/fomofeed models pull
	@touch $@

$(PHOTOS): services/clip/photos.py | $(VENV)/.project
	@$(STAGE) "get the demo photographs" $(BIN)/python -m services.clip.photos --out $(@D)
	@touch $@

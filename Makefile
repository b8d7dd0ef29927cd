# `make help` lists the targets.
VENV := .venv
PYTHON := python3
# The lines of constraints.txt about one package.
pin = sed -n '/^$(1)==/,/[^\\]$$/p' constraints.txt
# Every file is checked by its hash, and so is what builds a package that has no wheel.
PIP_INSTALL := python -m pip install --quiet --compile -c constraints.txt --build-constraint constraints.txt
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
export DVC_NO_ANALYTICS ?= 1
export HF_HUB_DISABLE_TELEMETRY ?= 1
export MLFLOW_DISABLE_TELEMETRY ?= true

.PHONY: help repro verdict mlflow ui serve test gpu-check lint typecheck check install dev lock vllm clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

repro: install ## run the pipeline on a real model and real data, then print the verdict
	python -m tools.recover
	dvc repro
	python -m tools.verdict

verdict: install ## print the verdict of the last run
	python -m tools.verdict

mlflow: install ## start the MLflow UI on http://127.0.0.1:5000, for this machine alone
	python -m tools.mlflow_ui

ui: mlflow

serve: $(VENV)/.serve ## serve the champion with OpenAI's API; ARGS="model=<name>@<alias> port=8001"
	python -m services.serve $(ARGS)

$(VENV)/.serve: $(VENV)/.installed
	$(PIP_INSTALL) --group serve
	touch $@

test: dev ## run the tests, two files at a time
	pytest -n 2 --dist loadfile --no-loadscope-reorder

gpu-check: dev ## check training on a GPU: is it right, and how fast is it? 20 minutes
	python -m benchmarks.gpu_check

lint: dev ## check style and format with ruff
	ruff check .
	ruff format --check .

typecheck: dev ## check types with mypy
	mypy

check: lint typecheck test ## run everything that CI runs

install: $(VENV)/.installed ## create the environment, or update it if its requirements changed

# With hashes, pip prefers the index to a local folder. So the build of torch that pip would choose on this
# machine, such as one without CUDA, is fetched first and then checked by its hash like the rest.
$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c "import sys; sys.version_info >= (3, 11) or sys.exit('Tuneproof needs Python 3.11 or later: run make PYTHON=python3.11 install')"
	$(PYTHON) -m venv $(VENV)
	$(call pin,pip) | python -m pip install --quiet --requirement /dev/stdin
	python -m pip download --quiet --no-deps --dest $(VENV)/torch "$$(grep -o '^torch==[^ ]*' constraints.txt)"
	$(call pin,torch) | $(PIP_INSTALL) --no-deps --no-index --find-links $(VENV)/torch --requirement /dev/stdin
	rm -r $(VENV)/torch
	$(PIP_INSTALL) --group runtime
	touch $@

dev: $(VENV)/.dev ## install what the tests, the checks and the benchmarks need

$(VENV)/.dev: $(VENV)/.installed
	$(PIP_INSTALL) --group dev
	touch $@

lock: $(VENV)/.installed ## write constraints.txt anew from pyproject.toml, with the hashes of all files
	$(PIP_INSTALL) --group lock
	python -m tools.lock

vllm: .venv-vllm/.installed ## create the environment for engine=vllm: gigabytes, and it needs a GPU

.venv-vllm/.installed: requirements-vllm.txt
	$(PYTHON) -m venv .venv-vllm
	.venv-vllm/bin/python -m pip install --quiet -r requirements-vllm.txt
	touch $@

clean: ## remove the outputs of the pipeline, but not the environment or DVC's cache
	rm -rf data/prepared data/.configured models predictions reports metrics plots

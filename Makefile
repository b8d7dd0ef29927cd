# Two commands for a newcomer: `make repro`, then `make test`. Each target's plain command stands below it.
VENV := .venv
PYTHON := python3
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
export DVC_NO_ANALYTICS ?= 1
export HF_HUB_DISABLE_TELEMETRY ?= 1
export MLFLOW_DISABLE_TELEMETRY ?= true

.PHONY: repro install dev test lint types ui vllm clean

repro: install ## run the pipeline and print the verdict
	dvc repro
	python -m tools.show

install: $(VENV)/.installed ## make the environment, if its list has changed

$(VENV)/.installed: requirements.txt constraints.txt
	@$(PYTHON) -c "import sys; sys.version_info >= (3, 11) or sys.exit('Tuneproof needs Python 3.11 or later; name one: make PYTHON=python3.11 install')"
	$(PYTHON) -m venv $(VENV)
	python -m pip install --quiet --compile -c constraints.txt -r requirements.txt
	touch $@

dev: $(VENV)/.dev ## add what the tests, the checks and the benchmarks need

$(VENV)/.dev: $(VENV)/.installed requirements-dev.txt
	python -m pip install --quiet --compile -c constraints.txt -r requirements-dev.txt
	touch $@

test: dev ## the tests, as CI runs them: two files at a time
	pytest -n 2 --dist loadfile --no-loadscope-reorder

lint: dev
	ruff check .
	ruff format --check .

types: dev
	mypy

ui: install ## the MLflow UI on the local store, on this machine alone: http://127.0.0.1:5000
	MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false mlflow ui --backend-store-uri sqlite:///mlflow.db --host 127.0.0.1 --workers 1

vllm: .venv-vllm/.installed ## make vLLM's own environment, for engine=vllm: gigabytes, and a GPU to use it

.venv-vllm/.installed: requirements-vllm.txt
	$(PYTHON) -m venv .venv-vllm
	.venv-vllm/bin/python -m pip install --quiet -r requirements-vllm.txt
	touch $@

clean: ## remove what the pipeline made, not the environment and not DVC's cache
	rm -rf data/prepared data/.configured models predictions reports metrics plots

# Two commands for a newcomer: `make repro`, then `make test`. Each target's plain command stands below it.
VENV := .venv
PYTHON := python3
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
export DVC_NO_ANALYTICS ?= 1
export HF_HUB_DISABLE_TELEMETRY ?= 1
export MLFLOW_DISABLE_TELEMETRY ?= true

.PHONY: repro install test lint types ui clean

repro: install ## run the pipeline and print the verdict
	dvc repro
	python -m tools.show

install: $(VENV)/.installed ## make the environment, if its list has changed

$(VENV)/.installed: requirements.txt requirements-dev.txt constraints.txt
	@$(PYTHON) -c "import sys; sys.version_info >= (3, 11) or sys.exit('Tuneproof needs Python 3.11 or later; name one: make PYTHON=python3.11 install')"
	$(PYTHON) -m venv $(VENV)
	python -m pip install --quiet --compile -c constraints.txt -r requirements.txt -r requirements-dev.txt
	touch $@

test: install ## the tests, as CI runs them
	pytest

lint: install
	ruff check .
	ruff format --check .

types: install
	mypy

ui: install ## the MLflow UI on the local store, on this machine alone: http://127.0.0.1:5000
	MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false mlflow ui --backend-store-uri sqlite:///mlflow.db --host 127.0.0.1 --workers 1

clean: ## remove what the pipeline made, not the environment and not DVC's cache
	rm -rf data/prepared data/.configured models predictions reports metrics plots

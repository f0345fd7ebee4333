# Everything a person does here. `make` alone lists it.
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
RUN := $(BIN)/python -m

.DEFAULT_GOAL := help
.PHONY: help setup demo up down status check upload test-fast test bench proof chaos docs lint lock

help: ## list the commands
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

# An environment is made anew when its requirements differ from those it was made from.
.venv/requirements.txt: requirements-dev.txt
	@echo "making .venv from $<"
	@$(PYTHON) -c 'import sys; sys.exit(None if (3,11) <= sys.version_info < (3,13) else "Python 3.11 or 3.12 is needed (Triton runs Python models with numpy 1), this is " + sys.version.split()[0] + ": make PYTHON=python3.12 ...")'
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || test -x $(BIN)/uv || $(PYTHON) -m venv --clear .venv
	@test -x $(BIN)/uv || { sed -n '/^uv==/,/[^\]$$/p' $< > .venv/uv.txt; \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r .venv/uv.txt; }
	@$(BIN)/uv pip sync --quiet --require-hashes --python $(BIN)/python $<
	@cp $< $@

TRITON_REQUIREMENTS := $(if $(shell nvidia-smi -L 2>/dev/null),requirements-triton-gpu.txt,requirements-triton.txt)
.venv-triton/requirements.txt: $(TRITON_REQUIREMENTS) .venv/requirements.txt
	@echo "making .venv-triton from $<"
	@test -x .venv-triton/bin/python || $(BIN)/uv venv --quiet --python $(BIN)/python .venv-triton
	@$(BIN)/uv pip sync --quiet --require-hashes --python .venv-triton/bin/python $<
	@cp $< $@

setup: .venv/requirements.txt .venv-triton/requirements.txt ## make .venv and .venv-triton from the pinned requirements

demo: setup ## the main job end to end (ARCHIVES= BASE_MODEL= IMAGES= MODEL= EPOCHS= IMGSZ=)
	@$(RUN) infra.demo $(if $(ARCHIVES),--archives $(ARCHIVES)) $(if $(IMAGES),--images $(IMAGES)) \
		$(if $(BASE_MODEL),--base-model $(BASE_MODEL)) $(if $(MODEL),--model $(MODEL)) \
		$(if $(EPOCHS),--epochs $(EPOCHS)) $(if $(IMGSZ),--imgsz $(IMGSZ))

up: setup ## start the local stack, with the data it had
	@$(RUN) infra.stack up

down: ## stop the local stack; its data stays in .studio
	@test ! -x $(BIN)/python || $(RUN) infra.stack down

status: setup ## each service, its address and health
	@$(RUN) infra.stack status

NEEDS_ARCHIVE = $(if $(ARCHIVE),,$(error expected a file, found none: make $@ ARCHIVE=x.zip))

check: setup ## check a dataset on this disk, without a server (ARCHIVE=x.zip JSON=1 PAGE=x.html POLICY=x.json)
	@$(NEEDS_ARCHIVE)$(RUN) infra.check $(ARCHIVE) $(if $(JSON),--json) $(if $(PAGE),--page $(PAGE)) $(if $(POLICY),--policy $(POLICY))

upload: setup ## put an archive into bucket datasets (ARCHIVE=x.zip, REPLACE=1 over one of that name)
	@$(NEEDS_ARCHIVE)$(RUN) infra.upload $(ARCHIVE) $(if $(REPLACE),--replace)

test-fast: setup ## the tests that need no stack, no browser and no training
	@$(RUN) pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder --hypothesis-profile fast \
		-m 'not heavy and not stack and not browser and not slow'

test: setup ## every test but those of `make proof`, on a real stack of its own
	@$(RUN) pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

bench: setup ## check, labels, merge, training, live predictions, rollouts, inference, each beside its limit or other tools
	@$(RUN) tests.benchmarks.bench_validation --large
	@$(RUN) tests.benchmarks.bench_labels
	@$(RUN) tests.benchmarks.fuzz_archives
	@$(RUN) tests.benchmarks.bench_merge
	@$(RUN) pytest -q -s tests/benchmarks/bench_training.py
	@$(RUN) pytest -q -s tests/benchmarks/bench_predict.py
	@$(RUN) pytest -q -s tests/benchmarks/bench_rollout.py
	@$(RUN) pytest -q -s tests/benchmarks/bench_inference.py

proof: setup ## the tests of minutes: what is killed, lost or attacked, every task, parity
	@$(RUN) pytest -m heavy -s

chaos: setup ## each flow while each part of the stack is killed, a line a case
	@set -o pipefail; $(RUN) pytest -m heavy -q -s tests/chaos/test_matrix.py | grep --line-buffered -E '^[a-z]+ \| |passed|failed|Error'

docs: setup ## write the parameter tables of docs/, and build the pages as a site in .site
	@$(RUN) infra.parameter_tables
	@$(BIN)/zensical build --strict --clean

lint: setup ## ruff and mypy, strict; docs: tables that are up to date, links that lead somewhere
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy .
	@$(RUN) infra.parameter_tables --check
	@$(BIN)/zensical build --strict --clean

lock: setup ## pin the requirements and their hashes anew, from the ranges of pyproject.toml
	$(BIN)/uv pip compile $(COMPILE) pyproject.toml -o requirements.txt
	$(BIN)/uv pip compile $(COMPILE) pyproject.toml --group dev -o requirements-dev.txt -c requirements.txt
	$(BIN)/uv pip compile $(COMPILE) requirements-triton.in -o requirements-triton.txt
	$(BIN)/uv pip compile $(COMPILE) requirements-triton-gpu.in -o requirements-triton-gpu.txt
COMPILE := --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-annotate --no-emit-index-url \
	--custom-compile-command "make lock"

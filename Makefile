# Everything a person does here. `make` alone lists it.
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
PY := $(BIN)/python -m
STUDIO := $(BIN)/studio

# With it each process compiles anew what it imports.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup demo up worker down status check upload import export register label select review loop monitor datasets models lineage diff logs backup backups restore upgrade rotate-keys test-fast test bench proof chaos docs lint lock

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

# The command `studio`, and `from studio import Studio` in notebooks.
$(STUDIO): .venv/requirements.txt pyproject.toml
	@$(BIN)/uv pip install --quiet --no-deps --no-build-isolation --python $(BIN)/python --editable .
	@touch $@

TRITON_REQUIREMENTS := $(if $(shell nvidia-smi -L 2>/dev/null),requirements-triton-gpu.txt,requirements-triton.txt)
.venv-triton/requirements.txt: $(TRITON_REQUIREMENTS) .venv/requirements.txt
	@echo "making .venv-triton from $<"
	@test -x .venv-triton/bin/python || $(BIN)/uv venv --quiet --python $(BIN)/python .venv-triton
	@$(BIN)/uv pip sync --quiet --require-hashes --python .venv-triton/bin/python $<
	@cp $< $@

.venv-review/requirements.txt: requirements-review.txt .venv/requirements.txt
	@echo "making .venv-review from $<"
	@test -x .venv-review/bin/python || $(BIN)/uv venv --quiet --python $(BIN)/python .venv-review
	@$(BIN)/uv pip sync --quiet --require-hashes --python .venv-review/bin/python $<
	@cp $< $@

setup: $(STUDIO) .venv-triton/requirements.txt ## make .venv and .venv-triton from the pinned requirements

demo: setup ## the main job end to end (ARCHIVES= BASE_MODEL= IMAGES= MODEL= EPOCHS= IMGSZ=)
	@$(STUDIO) demo $(ARCHIVES:%=--archives %) $(IMAGES:%=--images %) \
		$(if $(BASE_MODEL),--base-model $(BASE_MODEL)) $(if $(MODEL),--model $(MODEL)) \
		$(if $(EPOCHS),--epochs $(EPOCHS)) $(if $(IMGSZ),--imgsz $(IMGSZ))

up: setup $(if $(or $(filter 1,$(REVIEW)),$(wildcard .venv-review)),.venv-review/requirements.txt) ## start the local stack, with the data it had (REVIEW=1 with Label Studio from now on, REVIEW=0 without; LIVE_LOG=1 with a sample of live predictions, LIVE_LOG=0 without; TRITONS=2 with two Tritons; PUBLIC=1 with a front door for people elsewhere, PUBLIC=0 without; METRICS=1 with Prometheus and alerts, METRICS=0 without)
	@$(STUDIO) up $(if $(filter 1,$(REVIEW)),--review) $(if $(filter 0,$(REVIEW)),--no-review) \
		$(if $(filter 1,$(LIVE_LOG)),--live-log) $(if $(filter 0,$(LIVE_LOG)),--no-live-log) \
		$(if $(TRITONS),--tritons $(TRITONS)) \
		$(if $(filter 1,$(PUBLIC)),--public) $(if $(filter 0,$(PUBLIC)),--no-public) \
		$(if $(filter 1,$(METRICS)),--metrics) $(if $(filter 0,$(METRICS)),--no-metrics)

worker: setup ## one more worker, until Ctrl-C: for trainings on a GPU (GPU=1), for some queues (QUEUES="inference checks"), or for all runs but trainings
	@$(STUDIO) worker $(if $(GPU),--gpu $(GPU)) $(QUEUES:%=--queue %) $(if $(LIMIT),--limit $(LIMIT))

down: ## stop the local stack; its data stays in .studio
	@test ! -x $(STUDIO) || $(STUDIO) down

status: setup ## each service, its address and health
	@$(STUDIO) status

rotate-keys: setup ## new values for every password and key of the stack, while it is up (ELSEWHERE=1 those of machines elsewhere, too)
	@$(STUDIO) rotate-keys $(if $(filter 1,$(ELSEWHERE)),--elsewhere)

datasets: setup ## archives of the object store, with their verdicts (SEARCH= VERDICT= JSON=1)
	@$(STUDIO) datasets $(if $(SEARCH),--search "$(SEARCH)") $(if $(VERDICT),--verdict $(VERDICT)) $(if $(JSON),--json)

models: setup ## registered models, or the versions of one (MODEL= JSON=1)
	@$(STUDIO) models $(MODEL) $(if $(JSON),--json)

lineage: setup ## what an archive, a model, a version or a run was made from, and what from it (NAME= PICTURE=x.svg JSON=1)
	@$(STUDIO) lineage "$(NAME)" $(if $(PICTURE),--picture "$(PICTURE)") $(if $(JSON),--json)

diff: setup ## how two archives of the object store differ (A=a.zip B=b.zip JSON=1)
	@$(STUDIO) diff "$(A)" "$(B)" $(if $(JSON),--json)

logs: setup ## log lines of all services, by time (RUN=id CHILDREN=1 MODEL= ARCHIVE= REQUEST= SINCE=2h UNTIL= SERVICE=triton LEVEL=warning TEXT= FOLLOW=1 JSON=1)
	@$(STUDIO) logs $(RUN) $(if $(CHILDREN),--children) $(if $(MODEL),--model "$(MODEL)") \
		$(if $(ARCHIVE),--archive "$(ARCHIVE)") $(if $(REQUEST),--request "$(REQUEST)") \
		$(if $(SINCE),--since "$(SINCE)") $(if $(UNTIL),--until "$(UNTIL)") $(SERVICE:%=--service %) \
		$(if $(LEVEL),--level $(LEVEL)) $(if $(TEXT),--text "$(TEXT)") $(if $(FOLLOW),--follow) $(if $(JSON),--json)

monitor: setup ## is a model still right on what it has seen lately, without labels? (MODEL=shapes)
	@$(if $(MODEL),,$(error expected a model, found none: make monitor MODEL=shapes))$(STUDIO) monitor "$(MODEL)"

backup: setup ## everything that lasts, into a folder of another disk, while the stack works (TO=/mnt/backups KEEP=7)
	@$(if $(TO),,$(error expected a folder, found none: make backup TO=/mnt/backups))$(STUDIO) backup "$(TO)" $(if $(KEEP),--keep $(KEEP))

backups: setup ## the backups of a folder (FROM=/mnt/backups VERIFY=1 reads all files)
	@$(if $(FROM),,$(error expected a folder, found none: make backups FROM=/mnt/backups))$(STUDIO) backups "$(FROM)" $(if $(VERIFY),--verify)

restore: setup ## a backup, the newest without BACKUP=, into an empty .studio (FROM=/mnt/backups BACKUP=name)
	@$(if $(FROM),,$(error expected a folder, found none: make restore FROM=/mnt/backups))$(STUDIO) restore "$(FROM)" $(if $(BACKUP),--backup "$(BACKUP)")

upgrade: setup ## move the stack of an earlier release to this one, after a backup of it (TO=/mnt/backups)
	@$(if $(TO),,$(error expected a folder for a backup, found none: make upgrade TO=/mnt/backups))$(STUDIO) upgrade "$(TO)"

NEEDS_ARCHIVE = $(if $(ARCHIVE),,$(error expected a file, found none: make $@ ARCHIVE=x.zip))

check: setup ## check a dataset on this disk, without a server (ARCHIVE=x.zip JSON=1 PAGE=x.html POLICY=x.json)
	@$(NEEDS_ARCHIVE)$(STUDIO) check $(ARCHIVE) $(if $(JSON),--json) $(if $(PAGE),--page $(PAGE)) $(if $(POLICY),--policy $(POLICY))

upload: setup ## put an archive into bucket datasets (ARCHIVE=x.zip, REPLACE=1 over one of that name)
	@$(NEEDS_ARCHIVE)$(STUDIO) upload $(ARCHIVE) $(if $(REPLACE),--replace)

import: setup ## a YOLO archive of one of another tool (ARCHIVE=x.zip AS=y.zip FORMAT=coco REPLACE=1 over a source of that name)
	@$(NEEDS_ARCHIVE)$(STUDIO) import "$(ARCHIVE)" $(if $(AS),"$(AS)") $(if $(FORMAT),--format $(FORMAT)) $(if $(REPLACE),--replace)

export: setup ## an archive of this disk or of bucket datasets in the format of other tools (ARCHIVE=x.zip FORMAT=coco TO=y.zip)
	@$(NEEDS_ARCHIVE)$(STUDIO) export "$(ARCHIVE)" $(if $(FORMAT),--format $(FORMAT)) $(if $(TO),--to "$(TO)")

label: setup ## an archive of what a model is sure of in images of bucket media (MODEL= INPUTS="new/ a.jpg" ARCHIVE=more.zip)
	@$(NEEDS_ARCHIVE)$(if $(and $(MODEL),$(INPUTS)),,$(error expected a model and inputs: make label MODEL=shapes INPUTS=new/ ARCHIVE=more.zip))$(STUDIO) label "$(MODEL)" $(INPUTS) "$(ARCHIVE)"

register: setup ## a version of a model of weights that were trained elsewhere (MODEL= WEIGHTS=old.pt ARCHIVE=x.zip)
	@$(if $(and $(MODEL),$(WEIGHTS)),,$(error expected a model and weights: make register MODEL=shapes WEIGHTS=old.pt))$(STUDIO) register "$(MODEL)" "$(WEIGHTS)" $(if $(ARCHIVE),--archive "$(ARCHIVE)")

select: setup ## the images from which a model would learn most (MODEL= INPUTS=street/ COUNT=100)
	@$(if $(and $(MODEL),$(INPUTS)),,$(error expected a model and images: make select MODEL=shapes INPUTS=street/))$(STUDIO) select "$(MODEL)" $(INPUTS) $(if $(COUNT),--set selection.images=$(COUNT))

review: setup ## have people keep, refuse or correct what a model finds (MODEL= INPUTS="street/" AS=x.zip)
	@$(if $(and $(MODEL),$(INPUTS),$(AS)),,$(error expected a model, images and an archive to make: make review MODEL=shapes INPUTS="street/" AS=x.zip))$(STUDIO) review "$(MODEL)" $(INPUTS) "$(AS)"

loop: setup ## label images, have people correct some, train on all of it, serve what is better (MODEL= INPUTS="street/" EPOCHS= IMGSZ=)
	@$(if $(and $(MODEL),$(INPUTS)),,$(error expected a model and images: make loop MODEL=shapes INPUTS="street/"))$(STUDIO) loop "$(MODEL)" $(INPUTS) $(if $(EPOCHS),--epochs $(EPOCHS)) $(if $(IMGSZ),--imgsz $(IMGSZ))

test-fast: setup ## the tests that need no stack, no browser and no training
	@$(PY) pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder --hypothesis-profile fast \
		-m 'not heavy and not stack and not browser and not slow'

test: setup ## every test but those of `make proof`, on a real stack of its own
	@$(PY) pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

bench: setup ## each fast or exact part beside its limit or other tools: checks, trainings, predictions, roll-outs
	@$(PY) tests.benchmarks.bench_validation --large
	@$(PY) tests.benchmarks.bench_labels
	@$(PY) tests.benchmarks.fuzz_archives
	@$(PY) tests.benchmarks.bench_merge
	@$(PY) pytest -q -s tests/benchmarks/bench_training.py
	@$(PY) tests.benchmarks.bench_partial_labels
	@$(PY) tests.benchmarks.bench_label_errors
	@$(PY) tests.benchmarks.bench_promises
	@$(PY) tests.benchmarks.bench_selection
	@$(PY) pytest -q -s tests/benchmarks/bench_predict.py
	@$(PY) tests.benchmarks.bench_live_log
	@$(PY) pytest -q -s tests/benchmarks/bench_rollout.py
	@$(PY) pytest -q -s tests/benchmarks/bench_clicks.py
	@$(PY) pytest -q -s tests/benchmarks/bench_inference.py
	@$(PY) pytest -q -s tests/benchmarks/bench_catalogue.py
	@$(PY) tests.benchmarks.bench_logs
	@$(PY) pytest -q -s tests/benchmarks/bench_metrics.py
	@$(PY) pytest -q -s tests/benchmarks/bench_backup.py
	@$(PY) pytest -q -s tests/benchmarks/bench_shared_machine.py
	@$(PY) pytest -q -s tests/benchmarks/bench_scale.py

proof: setup ## the tests of minutes: what is killed, lost or attacked, every task, parity
	@$(PY) pytest -m heavy -s

chaos: setup ## each flow while each part of the stack is killed, a line a case
	@set -o pipefail; $(PY) pytest -m heavy -q -s tests/chaos/test_matrix.py tests/chaos/test_loop.py tests/chaos/test_full_disk.py tests/chaos/test_restore.py tests/chaos/test_outages.py tests/chaos/test_cut_off.py tests/chaos/test_clocks.py | grep --line-buffered -E '^[a-z]+ \| |passed|failed|Error'

docs: setup ## write the parameter tables of docs/, and build the pages as a site in .site
	@$(PY) infra.parameter_tables
	@$(BIN)/zensical build --strict --clean

lint: setup ## ruff and mypy, strict; docs: tables that are up to date, links that lead somewhere
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy .
	@$(PY) infra.parameter_tables --check
	@$(PY) infra.pipelines --check
	@$(BIN)/zensical build --strict --clean

lock: setup ## pin the requirements and their hashes anew, from the ranges of pyproject.toml
	$(BIN)/uv pip compile $(COMPILE) pyproject.toml -o requirements.txt
	$(BIN)/uv pip compile $(COMPILE) pyproject.toml --group dev -o requirements-dev.txt -c requirements.txt
	$(BIN)/uv pip compile $(COMPILE) pyproject.toml --override infra/images/servers-without.txt -o requirements-servers.txt -c requirements.txt
	$(BIN)/uv pip compile $(COMPILE) requirements-triton.in -o requirements-triton.txt
	$(BIN)/uv pip compile $(COMPILE) requirements-triton-gpu.in -o requirements-triton-gpu.txt
	$(BIN)/uv pip compile $(COMPILE) requirements-review.in -o requirements-review.txt
COMPILE := --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-annotate --no-emit-index-url \
	--custom-compile-command "make lock"

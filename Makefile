# Two commands: `make quickstart` shows the main job from nothing, `make test` runs every check. `make help`
# lists the rest.
# Needed: Python 3.10 or newer with venv, and a package index. No compiler.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Two processes by default, one thread each: more threads than processors make the tests slower, not faster.
TEST_PROCESSES ?= 2
TEST_THREADS ?= 1
# More words for pytest: make test TESTS="tests/nets -k names"
TESTS ?=
# An interpreter with detectron2 v0.6 installed, and a source folder of detectron2's main branch.
DETECTRON2_PYTHON ?=
DETECTRON2_SOURCE ?=

SETUP := tools/setup
RUNTIME := $(VENV)/.rexdet-runtime
DEVELOPMENT := $(VENV)/.rexdet-development
MMDET := $(VENV)/.rexdet-mmdet
PYTEST := OMP_NUM_THREADS=$(TEST_THREADS) $(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist loadgroup $(TESTS)

.DEFAULT_GOAL := help
.PHONY: help setup setup-mmdet mmcv-ops quickstart test check test-detectron2-v0.6 test-detectron2-main pins clean

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z0-9.-]+:.*## / {printf "  make %-22s %s\n", $$1, $$2}' Makefile

setup: $(RUNTIME) $(DEVELOPMENT) ## set up .venv: detectron2, rexdet, and what tests and checks need
	@echo "set up: $(BIN)/python; next: make quickstart, make test, $(BIN)/python tools/doctor.py"

# Hidden files in the environment remember what is done; they go when the environment goes.
$(RUNTIME): requirements/installer.txt requirements/build.txt requirements/runtime.txt setup.py pyproject.toml \
		$(SETUP)/make_environment.py $(SETUP)/install_detectron2.py $(SETUP)/detectron2_files.tsv
	@$(PYTHON) $(SETUP)/make_environment.py runtime --folder $(VENV)
	@touch $@

$(DEVELOPMENT): $(RUNTIME) requirements/development.txt
	@$(PYTHON) $(SETUP)/make_environment.py development --folder $(VENV)
	@touch $@

setup-mmdet: $(MMDET) ## add MMDetection to .venv: seconds, no compiler
	@echo "set up: MMDetection; docs/mmdetection.md shows how to use it, $(BIN)/python tools/doctor.py what is there"

$(MMDET): $(RUNTIME) requirements/mmdet.txt
	@$(PYTHON) $(SETUP)/make_environment.py mmdet --folder $(VENV)
	@touch $@

mmcv-ops: setup-mmdet ## compile mmcv's own operators: about 20 minutes on 2 cores, for detectors that need more of them
	@$(PYTHON) $(SETUP)/make_environment.py mmcv-ops --folder $(VENV)

quickstart: $(RUNTIME) ## from nothing to a trained detector, its table and its pictures, on the CPU
	@$(BIN)/python tools/quickstart.py

check: setup ## style, types and import contracts, without the tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

test: check setup-mmdet ## set up what is missing, then every check and test
	$(PYTEST)

test-detectron2-v0.6: ## the tests on an installed detectron2 v0.6 (DETECTRON2_PYTHON=its python)
	@OMP_NUM_THREADS=$(TEST_THREADS) $(PYTHON) $(SETUP)/run_other_detectron2.py --python "$(DETECTRON2_PYTHON)" -- $(TESTS)

test-detectron2-main: setup ## the tests on detectron2's main branch (DETECTRON2_SOURCE=its source folder)
	@OMP_NUM_THREADS=$(TEST_THREADS) $(BIN)/python $(SETUP)/run_other_detectron2.py --source "$(DETECTRON2_SOURCE)" -- -n $(TEST_PROCESSES) --dist loadgroup $(TESTS)

pins: setup ## write requirements/*.txt anew from the ranges in setup.py
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python $(SETUP)/pin_requirements.py

clean: ## remove the environment and everything built
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache

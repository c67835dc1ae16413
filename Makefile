# make demo | test | lint | setup; "make help" lists the variables

PYTHON ?= python3
VENV ?= .venv
ARGS ?=
export VENV DETECTRON2 TORCH FORCE

RUN = $(VENV)/bin/python

.PHONY: help setup demo test test-quick test-slow lint

help:
	@echo "make demo    set up what is missing, then train, evaluate and draw: output/demo/"
	@echo "make test    set up what is missing, then run the tests (ARGS='-k name' passes options)"
	@echo "make test-quick   those of a minute; make test-slow: processes, killed runs"
	@echo "make lint    ruff check, ruff format --check and mypy"
	@echo "make setup   set up only"
	@echo ""
	@echo "VENV=DIR         environment to create or to use as it is (default .venv)"
	@echo "PYTHON=PATH      Python 3.10 or later that creates it (default python3)"
	@echo "DETECTRON2=REQ   detectron2 to install instead of the default wheel, e.g. with compiled"
	@echo "                 operators: git+https://github.com/facebookresearch/detectron2.git@a59f0563"
	@echo "TORCH=ARGS       pip arguments for torch, e.g. 'torch==2.4.1 torchvision==0.19.1'"
	@echo "FORCE=1          repeat the set-up"
	@echo "SEGIC_D2_CACHE=DIR, SEGIC_D2_OFFLINE=1   where the embedded weights lie; no download"

setup:
	@$(PYTHON) -c "" >/dev/null 2>&1 || { echo "error: $(PYTHON) does not run: install Python 3.10 or later, or set PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) tools/setup_env.py

demo: setup
	$(RUN) demo/run_demo.py $(ARGS)

test: setup
	$(RUN) -m pytest tests -m "not slow" $(ARGS)

test-quick: setup
	$(RUN) -m pytest tests -m "not slow and not medium" $(ARGS)

test-slow: setup
	$(RUN) -m pytest tests -m slow $(ARGS)

lint: setup
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

# `make` lists what can be done; every target sets up .venv first where it needs one.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help run test lint format bench experiments wheel clean

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# Flags such as -m must not stand between overrides.
FLAGS = $(filter -%,$(ARGS))
SETTINGS = $(filter-out -%,$(ARGS))

help: ## list the targets
	@echo "make TARGET [ARGS=\"...\"] [PYTHON=python3.12]"
	@sed -nE 's/^([a-z]+):[^#]*## (.*)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

run: $(INSTALLED) ## set everything up and train, attack and report: make run ARGS="attack=fgsm seed=1"
	$(BIN)/python -m securegan.run $(FLAGS) $(if $(filter ckpt=%,$(ARGS)),,model=gan attack=pgd) $(SETTINGS)

test: $(INSTALLED) ## run the tests: make test ARGS="-m slow"
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile $(ARGS)

lint: $(INSTALLED) ## check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(INSTALLED) ## put the code in the house style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(INSTALLED) ## run every benchmark of benchmarks/
	@set -e; shopt -s nullglob; for file in benchmarks/*.py; do echo "== $$file"; $(BIN)/python "$$file" $(ARGS); done

experiments: $(INSTALLED) ## run every experiment of experiments/ again (hours)
	@set -e; shopt -s nullglob; for file in experiments/*/run.py; do echo "== $$file"; $(BIN)/python "$$file" $(ARGS); done

wheel: $(INSTALLED) ## build the wheel into dist/
	$(BIN)/python -m build --wheel

clean: ## remove what building and testing left (neither .venv nor runs/)
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

$(INSTALLED): pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

# A candidate counts only if it starts (a version manager's shim may not), is of a supported version and has ensurepip.
$(BIN)/python:
	@supported='import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))'; bare=; \
	for python in $(or $(PYTHON),python3.13 python3.12 python3.11 python3); do \
	  "$$python" -c "$$supported" >/dev/null 2>&1 || continue; \
	  if "$$python" -c 'import ensurepip, venv' >/dev/null 2>&1; then \
	    echo "Creating $(VENV) with $$("$$python" --version)"; \
    "$$python" -m venv $(VENV) && exit 0; rm -rf $(VENV); exit 1; \
	  fi; \
	  bare="$$bare $$python"; \
	done; \
	if [ -n "$$bare" ]; then \
	  echo "$${bare# } cannot create a virtual environment because ensurepip is missing: install the distribution's venv package (such as python3-venv), or name another interpreter with PYTHON=..." >&2; \
	else \
	  echo "No working Python 3.11, 3.12 or 3.13 was found$(if $(PYTHON), by the name $(PYTHON)): install one, or name it with PYTHON=/path/to/python3." >&2; \
	fi; exit 1

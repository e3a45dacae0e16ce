# The project's verbs. `make evaluate` and `make test` install what they need on a fresh machine.
# Options of a verb: make evaluate CONFIG=digits.yaml ARGS="--data.init_args.limit 8"; make test ARGS="-k solvers"
PYTHON ?= python3
CONFIG ?= shapes.yaml
ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: install evaluate test lint bench clean

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@echo "Installing into $(VENV): a few minutes, once."
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,bench,eval,speech,wandb,tensorboard,finetune]'
	touch $@

evaluate: install
	$(BIN)/python evaluate.py --config $(CONFIG) $(ARGS)

test: install
	$(BIN)/python -m pytest -n 2 --dist loadgroup $(ARGS)

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: install
	$(BIN)/python -m benchmarks.solvers $(ARGS)
	$(BIN)/python -m benchmarks.probes $(ARGS)
	$(BIN)/python -m benchmarks.precision $(ARGS)
	$(BIN)/python -m benchmarks.alignment

clean:
	rm -rf $(VENV) build *.egg-info

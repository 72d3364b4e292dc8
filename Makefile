PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test test-slow lint bench clean

$(VENV)/installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@

demo: $(VENV)/installed  ## lay out the example in ./demo and walk through the main job
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m evsync.example.demo demo

test: $(VENV)/installed  ## all tests but the slow ones
	$(BIN)/python -m pytest -n auto -m "not slow"

test-slow: $(VENV)/installed  ## the slow ones: every kill point, long random play, installed packages
	$(BIN)/python -m pytest -n auto -m slow

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/installed  ## floors and peers; flights there and back; ten times the rows; audit questions on a million events
	$(BIN)/python benchmarks/ratios.py
	$(BIN)/python benchmarks/flights.py
	$(BIN)/python benchmarks/growth.py
	$(BIN)/python benchmarks/feed.py
	$(BIN)/python benchmarks/postgres.py
	$(BIN)/python benchmarks/audit.py

clean:
	rm -rf $(VENV) demo benchmarks/data

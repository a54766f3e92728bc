# The same commands as in README.md, for people who have make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test lint bench soak audit

$(BIN)/omnimemory:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable '.[dev]'

demo: $(BIN)/omnimemory
	$(BIN)/omnimemory demo

test: $(BIN)/omnimemory
	$(BIN)/python -m pytest -n auto

lint: $(BIN)/omnimemory
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(BIN)/omnimemory
	$(BIN)/python -m benchmarks all

soak: $(BIN)/omnimemory
	$(BIN)/python -m pytest -m "soak or slow" --timeout 7200

# The exceptions and their reasons stand in SECURITY.md.
audit: $(BIN)/omnimemory
	$(PYTHON) -m venv $(VENV)/audit
	$(VENV)/audit/bin/pip install --quiet pip-audit
	$(VENV)/audit/bin/pip-audit --path "$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" --ignore-vuln CVE-2025-69872

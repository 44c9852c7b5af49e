# `make run` and `make test` do all the set-up: they make .venv with the versions of constraints.txt.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
SOURCES := pyproject.toml setup.py constraints.txt

.PHONY: run test test-slow test-faults test-cluster lint audit format bench lock clean

run: $(VENV)/.installed
	$(BIN)/runner method=forwardgnn dataset=cora

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n auto

test-slow: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n auto -m slow

test-faults: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n auto -m faults

test-cluster: $(VENV)/.installed-cluster
	$(BIN)/python -m pytest -m cluster -rs

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy runner
	$(BIN)/runner validate
	git ls-files -z | xargs -0 $(BIN)/detect-secrets-hook --baseline .secrets.baseline

audit: $(VENV)/.installed-dev
	$(BIN)/python .ci/audit.py constraints.txt

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.installed-dev
	$(BIN)/python -m benchmarks

$(VENV)/.installed: $(SOURCES)
	@echo "setting up $(VENV) (once; some minutes; 3 GB, or 6 with the CUDA build of torch)"
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(INSTALL) --editable .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(INSTALL) --editable '.[dev]'
	touch $@

$(VENV)/.installed-cluster: $(VENV)/.installed-dev
	$(INSTALL) --editable '.[ray]'
	touch $@

lock: $(VENV)/.installed-dev
	head -n 1 constraints.txt > constraints.new
	$(BIN)/python -m pip freeze --exclude-editable | sed 's/+cpu//' >> constraints.new
	mv constraints.new constraints.txt

clean:
	rm -rf $(VENV) build dist *.egg-info

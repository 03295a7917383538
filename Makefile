# make demo and make test are all that a newcomer needs: python3 (3.11 or later, with venv), pip and make.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin

.PHONY: demo test lint bench nightly docs dram-tables clean

# ResNet-50 from an ONNX file (the one inside the installed onnx package) on the medium preset chip.
demo: $(VENV)/core.stamp
	$(BIN)/lepton simulate "$$($(BIN)/python -c 'from sim.graph.onnx import light_model_path as path; print(path("resnet50"))')" --chip lepton_m --dtype int8

# One run first, so that the parallel tests find the engine compiled. The tests run in parallel: their BLAS must not.
test: $(VENV)/dev.stamp
	$(BIN)/lepton simulate gemm:64x64x64 --chip tiny --dtype int8 --format csv > /dev/null
	OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest -n auto

# Executed with their asserts; about 10 s of CPU each, most of it imports. The files stay as they are.
notebooks: $(VENV)/dev.stamp
	OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --nbmake notebooks

lint: $(VENV)/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/deptry .

bench: $(VENV)/dev.stamp
	for file in benchmarks/*.py; do echo "== $$file"; $(BIN)/python "$$file" || exit 1; done

nightly: $(VENV)/dev.stamp
	OPENBLAS_NUM_THREADS=1 HYPOTHESIS_PROFILE=random $(BIN)/python -m pytest -n auto -m nightly --timeout=3600

# The output shown in README.md and docs/, the table of parameters and the figures.
docs: $(VENV)/core.stamp
	$(BIN)/python docs/refresh.py

# The tables of efficiency by access pattern that come with the DRAM devices: a minute on four cores.
dram-tables: $(VENV)/core.stamp
	$(BIN)/python docs/dram_tables.py

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find sim tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "lepton needs Python 3.11 or later, but $(PYTHON) is $$($(PYTHON) --version 2>&1);" \
	       "name another one: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' || { \
	  echo "$(PYTHON) cannot make virtual environments; on Debian or Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/core.stamp: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	@touch $@

$(VENV)/dev.stamp: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $(VENV)/core.stamp $@

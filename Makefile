# What to run. Every target sets up what it needs in .venv; set-up speaks on stderr, so that stdout is the program's alone.
#   make demo  ARGS='--lang en'      the whole chain on this machine: no hardware, no root
#   make test  ONLY=poller ARGS=-x   every test (ONLY: pytest -k)
#   make bench ONLY=edge_rss_mib     the project's figures, beside its peers; writes bench.json
#   make fuzz  ONLY=modbus RUNS=1000 every parser, or these, under coverage-guided input; RUNS is 1,000,000 otherwise
#   make check                       ruff and mypy
#   make simulate SEEDS=200 HOURS=6  the whole chain on a fake clock, by chance; SEEDS==17: that one again
#   make soak  MINUTES=60            the whole chain under mixed faults; soak/soak.csv, soak/soak.png, a verdict
#   make slow-faults                 the fault catalogue on boards as slow as an ESP32; minutes, on both cores
#   make prove                       what takes too long for every day: a hundred power cuts (as root), and programs,
#                                    boards, links and cards broken hundreds of times while all readings must arrive
# PIP_INDEX_URL, PIP_EXTRA_INDEX_URL, PIP_FIND_LINKS and npm_config_registry are honoured by pip and npm themselves.
# WHEELS=folder installs from that folder and nowhere else. To fill one, where there is a network:
#   pip download --dest folder '.[dev]' hatchling babel editables

SHELL     := /bin/bash
MAKEFLAGS += --no-print-directory
PYTHON    ?= python3
INSTALL    = .venv/bin/python -m pip install --quiet --disable-pip-version-check \
             $(if $(WHEELS),--no-index --find-links '$(abspath $(WHEELS))') --editable
PACKAGING  = pyproject.toml hatch_build.py $(wildcard edge/locale/*/LC_MESSAGES/*.po)

.PHONY: demo test bench simulate soak fuzz prove check slow-faults tools

demo: .venv/.demo
	@.venv/bin/tankgate demo $(ARGS)

test: .venv/.dev tools tests/interpreters/node_modules
	@.venv/bin/python -m pytest $(if $(ONLY),-k '$(ONLY)') $(ARGS)

bench: .venv/.dev tools tests/interpreters/node_modules
	@.venv/bin/python -m tests.figures $(if $(ONLY),--only '$(ONLY)') $(ARGS)

simulate: .venv/.dev
	@PYTHONPATH=firmware .venv/bin/python -m tests.simulation $(if $(SEEDS),--seeds '$(SEEDS)') $(if $(HOURS),--hours '$(HOURS)')

soak: .venv/.dev tools
	@.venv/bin/python -m hil_tests.soak $(if $(MINUTES),--minutes '$(MINUTES)') $(ARGS)

slow-faults: .venv/.dev tools
	@.venv/bin/python -m pytest -m slow_board -rA $(ARGS) hil_tests/test_faults.py

prove: .venv/.dev tools
	@CUTS=100 .venv/bin/python -m pytest tests/edge/test_power_cut.py $(ARGS)
	@.venv/bin/python -m tests.figures.crash_loops

fuzz: .venv/.dev
	@PYTHONPATH=firmware .venv/bin/python -m tests.fuzz $(ONLY) $(if $(RUNS),--runs $(RUNS)) $(ARGS)

check: .venv/.dev
	@.venv/bin/ruff check .
	@.venv/bin/mypy

tools:
	@.ci/tools >&2

# Two stamps: the demo must not wait for the developer's tools.
.venv/.demo: $(PACKAGING) | .venv/bin/python
	@$(INSTALL) '.[demo]' >&2
	@touch $@

.venv/.dev: $(PACKAGING) | .venv/bin/python
	@$(INSTALL) '.[dev]' >&2
	@touch $@

.venv/bin/python:
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { echo >&2 \
	  'tankgate: python3-venv is missing (缺少 python3-venv):  sudo apt-get install python3-venv'; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo >&2 \
	  'tankgate: Python 3.11 or newer is needed (需要 Python 3.11 以上):  make PYTHON=python3.11 $(MAKECMDGOALS)'; exit 1; }
	@echo 'tankgate: setting up .venv, once (首次准备环境)' >&2
	@$(PYTHON) -m venv .venv >&2

# The 32-bit MicroPython that the board's tests run on. Without npm or its registry those tests are skipped, by name.
tests/interpreters/node_modules: tests/interpreters/package-lock.json | tools
	@if command -v npm >/dev/null; then npm ci --prefix tests/interpreters --silent --no-audit --no-fund >&2 && touch $@; fi || true

# make demo    watch a pack of NPCs learn           make demo ARGS="--seed 3 --json"   make demo CHAOS=1
# make test    prove it                              make test ARGS="-k broker"   ARGS="-n 0 -x --pdb"
# make torture break a whole system and prove that nothing shows   make torture ARGS="--brokers 3"
# make check   lint, types, import rules
# make timescale   a local TimescaleDB without Docker (needs root, once), for grindstone up --timescale
# make bench-stream   the stream's speed beside its peers'   ARGS="--rounds 3 --json"; also bench-recovery, bench-growth
# make bench-learn    the learners' speed beside their peers'   ARGS="--parts replay,windows --rounds 5 --json"
# make clean   stop what runs here and remove all that the commands made
# make format, make hooks (install the commit hook), make lock ARGS=--upgrade (resolve the packages anew)
# `demo`, `test` and `check` do the set-up they need; each may be the first.

SHELL := /usr/bin/env bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

ARGS ?=
CHAOS ?=
PY := .venv/bin/python
# Two processes share the tests, a file at a time: tests/lanes.py
LANES := -n 2 --dist loadfile --no-loadscope-reorder
# Every folder of ours with Python files in it
CODE := $(sort $(patsubst %/,%,$(dir $(wildcard schemas/*.py streams/*.py agents/*.py learners/*.py games/*.py \
	infra/*.py tests/*.py benchmarks/*.py))))

# The stamps carry the folder's name: a checkout that was moved is set up again.
here := $(shell printf %s '$(CURDIR)' | cksum | cut -d' ' -f1)
python_stamp := .venv/ready-$(here)
kafka_stamp := .grindstone/kafka/ready-$(here)
timescale_stamp := .grindstone/timescale/ready-$(here)

.PHONY: help setup demo test torture check bench-stream bench-recovery bench-growth bench-learn format hooks lock timescale clean

help:
	@sed -n 's/^# \{0,1\}//; 1,/^$$/p' Makefile

setup: $(python_stamp) $(kafka_stamp)
	@:

$(python_stamp): pyproject.toml requirements.lock requirements-torch.txt infra/setup/python.sh infra/setup/common.sh
	@bash infra/setup/python.sh $@

$(kafka_stamp): infra/kafka/pom.xml infra/setup/kafka.sh infra/setup/common.sh | $(python_stamp)
	@bash infra/setup/kafka.sh $@

demo: setup
	@.venv/bin/grindstone demo $(if $(filter 1 yes true,$(CHAOS)),--chaos) $(ARGS)

$(timescale_stamp): infra/setup/timescale.sh infra/setup/common.sh
	@bash infra/setup/timescale.sh $@

timescale: $(timescale_stamp)
	@:

test: setup
	@bash infra/setup/postgres.sh
	@$(PY) -m pytest $(LANES) $(ARGS)

torture: setup
	@bash infra/setup/postgres.sh
	@$(PY) -m tests.torture $(ARGS)

check: $(python_stamp)
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy $(CODE)
	.venv/bin/lint-imports --cache-dir .grindstone/cache/import-linter

bench-stream bench-recovery bench-growth bench-learn: bench-%: setup
	@$(PY) -m benchmarks.$* $(ARGS)

format: $(python_stamp)
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

hooks: $(python_stamp)
	.venv/bin/pre-commit install

lock: $(python_stamp)
	@bash infra/setup/lock.sh $(ARGS)

clean:
	@bash infra/setup/clean.sh

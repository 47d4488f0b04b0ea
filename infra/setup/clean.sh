#!/usr/bin/env bash
# Stops what runs in this checkout and removes all that its commands made. Run it from the root of the checkout.
set -euo pipefail
. infra/setup/common.sh

if [ -x .venv/bin/python ] && [ -d .grindstone ]; then
  # the processes first: without their broker they would only complain
  if [ -x .venv/bin/grindstone ] && ! .venv/bin/grindstone down </dev/null >.grindstone/clean.log 2>&1; then
    say "grindstone down did not succeed: $(tail -n 1 .grindstone/clean.log)"
  fi
  while IFS= read -r state; do
    .venv/bin/python -m infra.kafka.broker wipe --run-dir "$(dirname "$state")" </dev/null ||
      fail "a broker could not be stopped, so nothing was removed: $(dirname "$state")"
  done < <(find .grindstone -name broker.json -not -path '*/kafka/data/*')
  while IFS= read -r state; do
    .venv/bin/python -m infra.timescale.database wipe --run-dir "$(dirname "$state")" </dev/null ||
      fail "a database could not be stopped, so nothing was removed: $(dirname "$state")"
  done < <(find .grindstone -name database.json -not -path '*/timescale/*')
elif [ -n "$(find .grindstone -name process.json 2>/dev/null)" ]; then
  fail "a broker or a database may run here, and there is no .venv to stop it with: run \`make setup\` first"
fi
rm -rf .venv .grindstone
find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache build dist
say "removed all that was made"

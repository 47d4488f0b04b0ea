#!/usr/bin/env bash
# Resolves the dependencies of pyproject.toml anew: make lock. The result names no place that packages came from.
#   lock.sh [--upgrade]
set -euo pipefail
.venv/bin/uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --generate-hashes \
  --no-header --no-annotate --no-emit-index-url --no-emit-find-links --no-emit-package torch \
  --quiet --output-file requirements.lock "$@"

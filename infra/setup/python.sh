#!/usr/bin/env bash
# Makes .venv: the locked packages with their hashes, torch apart, and the checkout itself.
#   python.sh STAMP    writes the file STAMP when all is done; run it from the root of the checkout
# Environment: GRINDSTONE_PYTHON (the interpreter to use), GRINDSTONE_TORCH_INDEX (a package index with
# another build of torch); pip's own variables for index, links, time-out and certificates hold for uv too.
set -euo pipefail
. infra/setup/common.sh
uv_version=0.13.8
stamp=$1
quiet=--quiet

fits() {
  "$1" -c 'import sys; raise SystemExit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null
}

find_python() {
  local name
  for name in ${GRINDSTONE_PYTHON:-python3 python3.13 python3.12 python3.11}; do
    if command -v "$name" >/dev/null && fits "$name"; then
      command -v "$name"
      return
    fi
  done
  return 1
}

make_venv() {
  if .venv/bin/python -c 'import pip' 2>/dev/null && fits .venv/bin/python &&
    [ "$(cat .venv/checkout 2>/dev/null)" = "$PWD" ]; then
    return
  fi
  local python version
  if ! python=$(find_python); then
    [ -z "${GRINDSTONE_PYTHON:-}" ] || fail "GRINDSTONE_PYTHON must be Python 3.11 to 3.13; got $GRINDSTONE_PYTHON"
    system_packages "Python 3.11 to 3.13 is missing" python3.11 python3.11-venv
    python=$(find_python) || fail "Python 3.11 to 3.13 is still missing"
  fi
  version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
  "$python" -c 'import ensurepip, venv' 2>/dev/null ||
    system_packages "Python $version here cannot make virtual environments" "python$version-venv"
  say "making .venv with Python $version ($python)"
  "$python" -m venv --clear .venv
  printf '%s\n' "$PWD" >.venv/checkout
}

# What the user told pip holds for uv too, which reads variables of its own.
configure_uv() {
  local index
  index=${PIP_INDEX_URL:-$(.venv/bin/python -m pip config get global.index-url 2>/dev/null || true)}
  [ -z "$index" ] || export UV_DEFAULT_INDEX=${UV_DEFAULT_INDEX:-${UV_INDEX_URL:-$index}}
  [ -z "${PIP_EXTRA_INDEX_URL:-}" ] || export UV_INDEX=${UV_INDEX:-$PIP_EXTRA_INDEX_URL}
  [ -z "${PIP_FIND_LINKS:-}" ] || export UV_FIND_LINKS=${UV_FIND_LINKS:-${PIP_FIND_LINKS// /,}}
  # uv brings its own list of authorities; that of the system may have more, a company's for one
  local authorities=${SSL_CERT_FILE:-${PIP_CERT:-/etc/ssl/certs/ca-certificates.crt}}
  [ ! -r "$authorities" ] || export SSL_CERT_FILE=$authorities
  export UV_HTTP_TIMEOUT=${UV_HTTP_TIMEOUT:-${PIP_DEFAULT_TIMEOUT:-120}}
  export VIRTUAL_ENV=$PWD/.venv UV_NO_PROGRESS=${UV_NO_PROGRESS:-1} UV_PYTHON_DOWNLOADS=never
}

uv() { .venv/bin/uv $quiet "$@" </dev/null; }

install_uv() {
  case "$(.venv/bin/uv --version 2>/dev/null)" in "uv $uv_version"*) return ;; esac
  .venv/bin/python -m pip install --quiet --disable-pip-version-check "uv==$uv_version" </dev/null
}

install_torch() {
  .venv/bin/python infra/setup/has.py requirements-torch.txt && return
  # gigabytes come now: whoever looks on sees them come
  [ ! -t 2 ] || { quiet='' && unset UV_NO_PROGRESS; }
  say "installing torch (with CUDA about 5 GB; GRINDSTONE_TORCH_INDEX can name an index with a smaller build)"
  if [ -n "${GRINDSTONE_TORCH_INDEX:-}" ]; then
    uv pip install --no-deps --default-index "$GRINDSTONE_TORCH_INDEX" "$(grep '^torch==' requirements-torch.txt)"
  fi
  uv pip install -r requirements-torch.txt --constraint requirements.lock
  quiet=--quiet
}

one_at_a_time
make_venv
configure_uv
install_uv
say "installing the packages of requirements.lock"
uv pip install --require-hashes -r requirements.lock
install_torch
uv pip install --no-deps --no-build-isolation --editable .
# Where Python may not write what it compiles (PYTHONDONTWRITEBYTECODE, a read-only image) every
# process would compile some thousand files anew: a third of the time that it takes to start. A few
# are templates or Python 2, which nothing imports: they fail.
say "compiling the packages"
.venv/bin/python -m compileall -qq -j 0 .venv/lib/python3.*/site-packages || true
.venv/bin/python -m streams.machine_code
touch "$stamp"
say "Python is ready: .venv/bin/grindstone"

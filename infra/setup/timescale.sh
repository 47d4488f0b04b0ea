#!/usr/bin/env bash
# Makes TimescaleDB possible on this machine without Docker: PostgreSQL and TimescaleDB (its Apache-licensed build)
# in a Debian tree of their own, so that nothing of it is installed on the system. About a minute, 450 MB.
#   timescale.sh STAMP    writes the file STAMP when all is done; run it from the root of the checkout
# Environment: GRINDSTONE_DEBIAN_MIRROR (else the one that apt uses here).
set -euo pipefail
. infra/setup/common.sh
stamp=$1
home=.grindstone/timescale
suite=trixie
postgres=17 # the version that this suite has

mirror() {
  local found=${GRINDSTONE_DEBIAN_MIRROR:-} file
  for file in /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list; do
    [ -z "$found" ] && [ -r "$file" ] || continue
    found=$(grep -Eo '^(URIs:|deb) .*' "$file" | grep -Eo '[a-z]+://[^ ]+' | head -n 1 || true)
  done
  [ -n "$found" ] || fail "no Debian mirror is known here: name one in GRINDSTONE_DEBIAN_MIRROR"
  printf '%s\n' "$found"
}

# The tree keeps what a server needs; no address of where it came from stays in it.
slim() {
  rm -rf "$1"/var/cache/apt/* "$1"/var/lib/apt/lists/* "$1"/var/log/* "$1"/debootstrap
  rm -rf "$1"/usr/share/{doc,man,locale,info}
  : >"$1/etc/apt/sources.list"
  rm -f "$1"/etc/{resolv.conf,hostname}
}

build() {
  local part=$home/tree.part log=$home/debootstrap.log
  [ "$(id -u)" -eq 0 ] || fail "a Debian tree can only be made as root. Type this, then start again:
  sudo make timescale"
  local from
  from=$(mirror)
  say "building PostgreSQL $postgres with TimescaleDB in $home (about a minute, 450 MB)"
  rm -rf "$part"
  debootstrap --variant=minbase --include="postgresql-$postgres,postgresql-$postgres-timescaledb" \
    "$suite" "$part" "$from" </dev/null >"$log" 2>&1 || {
    tail -n 5 "$log" >&2
    fail "the Debian tree could not be built (all of the log: $log)"
  }
  slim "$part"
  rm -rf "$home/tree"
  mv "$part" "$home/tree"
}

one_at_a_time
mkdir -p "$home"
packages=()
command -v bwrap >/dev/null || packages+=(bubblewrap)
if [ ! -d "$home/tree" ]; then
  command -v debootstrap >/dev/null || packages+=(debootstrap)
fi
[ ${#packages[@]} -eq 0 ] ||
  system_packages "TimescaleDB runs without Docker here, in a Debian tree of its own" "${packages[@]}"
[ -d "$home/tree" ] || build
touch "$stamp"
say "TimescaleDB is ready: grindstone up --timescale"

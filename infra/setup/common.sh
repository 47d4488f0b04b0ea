# Sourced by the set-up scripts: messages, and packages of the distribution.

say() { printf 'setup: %s\n' "$*"; }

fail() {
  printf 'setup: %s\n' "$*" >&2
  exit 1
}

# system_packages WHY PACKAGE...: installs them as root, or stops with the one line to type.
system_packages() {
  local why=$1
  shift
  local line="apt-get install -y --no-install-recommends $*"
  command -v apt-get >/dev/null || fail "$why. Install what your system calls: $*"
  [ "$(id -u)" -eq 0 ] || fail "$why. Type this, then start again:
  sudo $line"
  say "$why; installing $*"
  export DEBIAN_FRONTEND=noninteractive
  local log=.grindstone/setup-packages.log
  { apt-get update && $line; } </dev/null >"$log" 2>&1 || {
    tail -n 15 "$log" >&2
    fail "the packages could not be installed (all of the log: $log). The line was: $line"
  }
}

# One set-up at a time in a checkout; a second one waits for the first.
one_at_a_time() {
  mkdir -p .grindstone
  exec 9>.grindstone/setup.lock
  flock -n 9 || {
    say "another set-up is at work in this checkout; waiting for it"
    flock 9
  }
}

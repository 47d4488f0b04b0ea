#!/usr/bin/env bash
# Makes the tests of the database possible: PostgreSQL's programs, from the distribution's packages.
# Never fails: without them those tests are skipped. Run it from the root of the checkout.
set -euo pipefail
. infra/setup/common.sh
packages="postgresql-common postgresql"

ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1 && exit 0
command -v postgres >/dev/null && exit 0
if ! command -v apt-get >/dev/null || [ "$(id -u)" -ne 0 ]; then
  say "there is no PostgreSQL, so tests of the database will be skipped. To have them:
  sudo apt-get install -y --no-install-recommends $packages"
  exit 0
fi
one_at_a_time
# The tests start servers of their own: none is wanted that runs all the time
(system_packages "tests of the database take PostgreSQL" postgresql-common) || exit 0
sed -i 's/^#\?create_main_cluster.*/create_main_cluster = false/' /etc/postgresql-common/createcluster.conf
(system_packages "tests of the database take PostgreSQL" postgresql) ||
  say "PostgreSQL could not be installed: tests of the database will be skipped"

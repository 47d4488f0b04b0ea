#!/usr/bin/env bash
# Makes a Kafka broker possible on this machine: its image where a Docker engine answers, else its jars and a Java.
#   kafka.sh STAMP    writes the file STAMP when all is done; run it from the root of the checkout
# Environment: GRINDSTONE_BROKER=java passes a Docker engine by.
set -euo pipefail
. infra/setup/common.sh
stamp=$1
home=.grindstone/kafka

java_fits() {
  local version
  version=$(java -version 2>&1 </dev/null | sed -n 's/.*version "\([0-9]*\).*/\1/p' | head -n 1)
  [ "${version:-0}" -ge 17 ]
}

docker_answers() {
  [ "${GRINDSTONE_BROKER:-}" != java ] && command -v docker >/dev/null &&
    timeout 10 docker info >/dev/null 2>&1 </dev/null &&
    docker compose version >/dev/null 2>&1 </dev/null
}

fetch_jars() {
  say "fetching Kafka's jars (43 MB)"
  rm -rf "$home/lib.part"
  local log=$home/maven.log
  mvn -B -f infra/kafka/pom.xml dependency:copy-dependencies -DincludeScope=runtime \
    -DoutputDirectory="$PWD/$home/lib.part" </dev/null >"$log" 2>&1 || {
    grep -E '^\[(ERROR|FATAL)' "$log" | head -n 8 >&2
    fail "Kafka's jars could not be fetched (all of the log: $log)"
  }
  rm -rf "$home/lib" "$home/formatted" "$home/classes.jsa"
  mv "$home/lib.part" "$home/lib"
}

one_at_a_time
mkdir -p "$home"
if docker_answers; then
  say "a Docker engine answers: fetching the Kafka image"
  docker compose -f docker-compose.yml pull --quiet kafka </dev/null
else
  packages=()
  java_fits || packages+=(openjdk-17-jre-headless)
  if [ ! -d "$home/lib" ] || [ infra/kafka/pom.xml -nt "$home/lib" ]; then
    command -v mvn >/dev/null || packages+=(maven)
    needs_jars=yes
  fi
  [ ${#packages[@]} -eq 0 ] ||
    system_packages "Kafka runs without Docker here, and that takes Java 17 and, once, Maven" "${packages[@]}"
  java_fits || fail "java must be version 17 or later; got $(java -version 2>&1 </dev/null | head -n 1)"
  [ -z "${needs_jars:-}" ] || fetch_jars
  # the class archive holds for jars in this very place
  if [ ! -d "$home/formatted" ] || [ "$(cat "$home/checkout" 2>/dev/null)" != "$PWD" ]; then
    say "starting Kafka once, so that it starts quickly from now on"
    .venv/bin/python -m infra.kafka.prepare </dev/null || fail "Kafka did not start"
    printf '%s\n' "$PWD" >"$home/checkout"
  fi
fi
touch "$stamp"
say "Kafka is ready"

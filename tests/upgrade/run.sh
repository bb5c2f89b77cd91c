#!/bin/sh
# Builds version 0.1.0 as first deployed, from this repository's history, and lets this version take over from
# it: see upgrade.py. The old version is built once.
set -eu

old=4935c2359b464235884b1b5f3caa7334538c69f1
target="${CARGO_TARGET_DIR:-target}"
cargo="$(command -v cargo || echo "$HOME/.cargo/bin/cargo")"
source="$target/upgrade/source"
program="$target/upgrade/framepress-0.1.0"

if ! git cat-file -e "$old^{commit}" 2>/dev/null; then
    echo "skipped: no upgrade from 0.1.0: its commit is not in this clone (git fetch --unshallow)" >&2
    exit 0
fi
if [ ! -x "$program" ]; then
    rm -rf "$source"
    mkdir -p "$source"
    git archive "$old" | tar -x -C "$source"
    # Both versions share most of their dependencies, so the old one is built in the same target folder,
    # with the same debug information. Cargo puts this version's program back below.
    folder="$(cd "$target" && pwd)"
    (
        cd "$source"
        CARGO_TARGET_DIR="$folder" CARGO_PROFILE_DEV_DEBUG=line-tables-only \
            "$cargo" build --quiet --locked --bin framepress
    )
    cp "$target/debug/framepress" "$program"
fi
"$cargo" build --quiet --bin framepress
git show "$old:deploy/framepress.example.yaml" >"$target/upgrade/framepress.yaml"
tests/python/.venv/bin/python tests/upgrade/upgrade.py \
    "$program" "$target/debug/framepress" "$target/upgrade/framepress.yaml"

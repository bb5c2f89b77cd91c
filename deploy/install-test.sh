#!/bin/sh
# `cargo install --path .`, as in the README, into a temporary folder; then the installed program with the
# configuration of the service. Reuses the libraries built for the tests.
set -eu

cargo="$(command -v cargo || echo "$HOME/.cargo/bin/cargo")"
root="$(mktemp -d)"
trap 'rm -rf "$root"' EXIT
"$cargo" install --quiet --path . --debug --locked --no-track --root "$root"
[ "$(ls "$root/bin")" = framepress ] || { echo "cargo install: not just framepress" >&2; exit 1; }
sh deploy/debian/work.sh "$root/bin/framepress" deploy/systemd/framepress.yaml
echo "cargo install: installed and run: $("$root/bin/framepress" --version)"

#!/bin/sh
# Makes the Debian package from a build of the given profile: release or debug.
# Prints the path of the package last.
set -eu

profile="$1"
cargo="$(command -v cargo || echo "$HOME/.cargo/bin/cargo")"
target="${CARGO_TARGET_DIR:-target}"

if ! "$cargo" deb --version >/dev/null 2>&1; then
    echo "installing cargo-deb" >&2
    CARGO_TARGET_DIR="$target/cargo-deb" "$cargo" install --quiet --locked cargo-deb@3.8.0 >&2
fi

case "$profile" in
    release) "$cargo" build --quiet --release --bin framepress ;;
    debug) "$cargo" build --quiet --bin framepress ;;
    *) echo "release or debug, not $profile" >&2; exit 2 ;;
esac

# The manifest names the files below the target folder of cargo's default; cargo-deb itself
# replaces target/release by the folder and the profile in use, but not target/package.
made="target/package"
rm -rf "$made"
mkdir -p "$made/completions"
program="$target/$profile/framepress"
"$program" man "$made/man"
"$program" completions bash >"$made/completions/framepress.bash"
"$program" completions zsh >"$made/completions/_framepress"
"$program" completions fish >"$made/completions/framepress.fish"
# Says of which packages the program is made (CycloneDX).
python3 deploy/sbom.py "$cargo" >"$made/framepress.cdx.json"

if [ "$profile" = release ]; then
    exec "$cargo" deb --quiet --no-build --locked
fi
exec "$cargo" deb --quiet --no-build --strip --fast --compress-type gz --profile dev --locked

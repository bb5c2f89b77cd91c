#!/bin/sh
# package.sh release|debug [arm64]: makes the Debian package from a build of the given profile, for this
# machine or for ARM64. The last line of its output is the path of the package.
#
# The same sources at the same commit make the same bytes: times are those of the commit, and the program
# contains no path of this machine.
set -eu

profile="$1"
arch="${2:-}"
cargo="$(command -v cargo || echo "$HOME/.cargo/bin/cargo")"
target="${CARGO_TARGET_DIR:-target}"

if ! "$cargo" deb --version >/dev/null 2>&1; then
    echo "installing cargo-deb" >&2
    CARGO_TARGET_DIR="$target/cargo-deb" "$cargo" install --quiet --locked cargo-deb@3.8.0 >&2
fi

case "$profile" in
    release) flags="--release" ;;
    debug) flags="" ;;
    *) echo "release or debug, not $profile" >&2; exit 2 ;;
esac
case "$arch" in
    "") run="" folder="$target/$profile" by="$cargo" options="" ;;
    arm64)
        # The program writes its manual pages itself, here under the emulator.
        run="qemu-aarch64-static" folder="$target/arm64/aarch64-unknown-linux-gnu/$profile"
        by="sh deploy/arm64/cargo.sh" options="--target aarch64-unknown-linux-gnu"
        ;;
    *) echo "arm64 or nothing, not $arch" >&2; exit 2 ;;
esac
# shellcheck disable=SC2086 # a list of words
$by build --quiet $flags --bin framepress

# The manifest names the files below cargo's default target folder. cargo-deb itself replaces target/release
# by the folder and the profile in use, but not target/package.
made="target/package"
rm -rf "$made"
mkdir -p "$made/completions"
program="$folder/framepress"
$run "$program" man "$made/man"
$run "$program" completions bash >"$made/completions/framepress.bash"
$run "$program" completions zsh >"$made/completions/_framepress"
$run "$program" completions fish >"$made/completions/framepress.fish"
# Lists the packages that make up the program (CycloneDX).
python3 deploy/sbom.py "$cargo" >"$made/framepress.cdx.json"

SOURCE_DATE_EPOCH="${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || date +%s)}"
export SOURCE_DATE_EPOCH
if [ "$profile" = release ]; then
    # shellcheck disable=SC2086
    exec $by deb --quiet --no-build --locked $options
fi
# shellcheck disable=SC2086
exec $by deb --quiet --no-build --strip --fast --compress-type gz --profile dev --locked $options

#!/bin/sh
# run.sh PROFILE: what is built for ARM64, tested under qemu: the rooms that have vector code or read bytes
# of others, the golden figures, frame rings, the whole way of a frame with every codec and layout, bit by
# bit beside the program of this machine, and which vector code the codecs use.
#
# Shows that it is right; how fast it is shows on a machine of its own only.
set -eu

profile="$1"
target="${CARGO_TARGET_DIR:-target}"
folder="$target/arm64/aarch64-unknown-linux-gnu/$profile"
fail() {
    echo "ARM64: $*" >&2
    exit 1
}

status=0
sh deploy/arm64/setup.sh || status=$?
if [ "$status" -eq 3 ]; then
    echo "skipped: nothing is built and tested for ARM64" >&2
    exit 0
fi
[ "$status" -eq 0 ] || fail "its tools cannot be installed"

case "$profile" in
    release) flags="--release" native="--release" ;;
    debug) flags="" native="" ;;
    *) fail "release or debug, not $profile" ;;
esac
# shellcheck disable=SC2086 # no word or one
sh deploy/arm64/cargo.sh build --quiet $flags --bin framepress
# shellcheck disable=SC2086
"$(command -v cargo || echo "$HOME/.cargo/bin/cargo")" build --quiet $native --bin framepress
# Tests that start the program start this.
program="$(cd "$folder" && pwd)/framepress-emulated"
printf '#!/bin/sh\nexec qemu-aarch64-static "%s" "$@"\n' "$(cd "$folder" && pwd)/framepress" >"$program"
chmod 755 "$program"

found="$("$program" check --redis-url embedded:// |
    grep -o 'libjpeg-turbo with [A-Z0-9]*, libwebp with [A-Z0-9]*' || true)"
[ "$found" = "libjpeg-turbo with NEON, libwebp with NEON" ] || fail "check says: $found"
# And it is no mere word: the functions of both libraries are in the program.
symbols="$(aarch64-linux-gnu-nm "$folder/framepress")"
for function in jsimd_fdct_islow_neon jsimd_idct_islow_neon jsimd_huff_encode_one_block_neon \
    VP8EncDspInitNEON VP8DspInitNEON; do
    echo "$symbols" | grep -qw "$function" || fail "$function is not in the program"
done
echo "ARM64: libjpeg-turbo and libwebp run their NEON code"

# Line tables and optimised loops are in a release build only.
[ "$profile" != release ] || python3 tests/arm64/kernels.py "$folder/framepress" || fail "a loop is not vectorised"

# Fewer random cases than usual, for emulation is slow.
export PROPTEST_CASES="${PROPTEST_CASES:-32}"
FRAMEPRESS_BIN="$program" sh deploy/arm64/cargo.sh test --quiet --lib -- \
    image:: analysis:: wire:: redis:: frame:: ring::
# Much to compile: not in the short form, whose whole way is that of same.py below.
if [ "$profile" = release ] || [ -n "${ARM64_WHOLE:-}" ]; then
    FRAMEPRESS_BIN="$program" sh deploy/arm64/cargo.sh test --quiet --test it -- \
        pixels::golden_layouts pixels::parity pixels::layouts pixels::figures ring::whole_way
fi
tests/python/.venv/bin/python tests/arm64/same.py "$target/$profile/framepress" "$program"

[ "$profile" != release ] || sh deploy/debian/package.sh release arm64

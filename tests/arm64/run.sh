#!/bin/sh
# run.sh PROFILE: tests the ARM64 build under qemu. It runs the modules with vector code or with parsers of
# foreign bytes, the golden figures and frame rings. It sends frames with every codec and layout through the
# whole pipeline, compares the results bit by bit with those of this machine's program, and checks which
# vector code the codecs use.
#
# This shows correctness only; speed needs a real ARM64 machine.
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
    # The bridge is left out: librdkafka takes long to compile.
    debug) flags="--no-default-features --features program" native="" ;;
    *) fail "release or debug, not $profile" ;;
esac
cargo="$(command -v cargo || echo "$HOME/.cargo/bin/cargo")"
# shellcheck disable=SC2086 # a list of words
sh deploy/arm64/cargo.sh build --quiet $flags --bin framepress
# shellcheck disable=SC2086
"$cargo" build --quiet $native --bin framepress
# Tests that start the program start this wrapper.
program="$(cd "$folder" && pwd)/framepress-emulated"
printf '#!/bin/sh\nexec qemu-aarch64-static "%s" "$@"\n' "$(cd "$folder" && pwd)/framepress" >"$program"
chmod 755 "$program"

found="$("$program" check --redis-url embedded:// |
    grep -o 'libjpeg-turbo with [A-Z0-9]*, libwebp with [A-Z0-9]*' || true)"
[ "$found" = "libjpeg-turbo with NEON, libwebp with NEON" ] || fail "check says: $found"
# Check the claim: the functions of both libraries must be in the program.
symbols="$(aarch64-linux-gnu-nm "$folder/framepress")"
for function in jsimd_fdct_islow_neon jsimd_idct_islow_neon jsimd_huff_encode_one_block_neon \
    VP8EncDspInitNEON VP8DspInitNEON; do
    echo "$symbols" | grep -qw "$function" || fail "$function is not in the program"
done
echo "ARM64: libjpeg-turbo and libwebp run their NEON code"

# Only a release build has line tables and optimised loops.
[ "$profile" != release ] || python3 tests/arm64/kernels.py "$folder/framepress" || fail "a loop is not vectorised"

# The tests take as long to compile as the program, so the short form relies on same.py below.
if [ "$profile" = release ] || [ -n "${ARM64_WHOLE:-}" ]; then
    # Fewer random cases than usual, as emulation is slow.
    export PROPTEST_CASES="${PROPTEST_CASES:-32}" FRAMEPRESS_BIN="$program"
    # shellcheck disable=SC2086
    sh deploy/arm64/cargo.sh test --quiet $flags --lib -- \
        image:: analysis:: wire:: redis:: frame:: ring::
    # shellcheck disable=SC2086
    sh deploy/arm64/cargo.sh test --quiet $flags --test it -- \
        pixels::golden_layouts pixels::parity pixels::layouts pixels::figures ring::whole_path
fi
tests/python/.venv/bin/python tests/arm64/same.py "$target/$profile/framepress" "$program"

[ "$profile" != release ] || sh deploy/debian/package.sh release arm64

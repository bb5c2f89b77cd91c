#!/bin/sh
# Profile-guided optimisation of `framepress`: builds it instrumented, runs a workload, merges the profiles,
# builds it again with them, and measures both builds alternately.
#
# Needs the llvm-profdata of rustc's LLVM; LLVM_PROFDATA sets its path if it is not found. Exit code 4: it is
# missing. PGO_ONLY_CHECK=1 stops after the search.
set -eu

cargo="${CARGO:-cargo}"
target="${TARGET:-target}"
rustc="${RUSTC:-rustc}"
work="$target/pgo"

host="$("$rustc" -vV | sed -n 's/^host: //p')"
major="$("$rustc" -vV | sed -n 's/^LLVM version: \([0-9]*\).*/\1/p')"

# The format of raw profiles changes between LLVM versions: only the same major version fits.
fits() {
    [ -n "$1" ] && [ "$("$1" --version 2>/dev/null | sed -n 's/.*LLVM version \([0-9]*\).*/\1/p')" = "$major" ]
}

find_profdata() {
    for candidate in "${LLVM_PROFDATA:-}" \
        "$("$rustc" --print sysroot)/lib/rustlib/$host/bin/llvm-profdata" \
        "/usr/lib/llvm-$major/bin/llvm-profdata" \
        "$(command -v "llvm-profdata-$major" || true)" \
        "$(command -v llvm-profdata || true)"; do
        if fits "$candidate"; then
            echo "$candidate"
            return
        fi
    done
}

profdata="$(find_profdata)"
if [ -z "$profdata" ]; then
    {
        echo "pgo: llvm-profdata of LLVM $major is missing ($("$rustc" --version) is built with it)."
        other="$(command -v llvm-profdata || true)"
        [ -z "$other" ] || echo "pgo: $other is of another version and cannot read the profiles."
        echo "pgo: rustup component add llvm-tools     or, on Debian: apt-get install llvm-$major"
        echo "pgo: or name it: LLVM_PROFDATA=/path/to/llvm-profdata make pgo"
    } >&2
    exit 4
fi
echo "pgo: $profdata"
[ -z "${PGO_ONLY_CHECK:-}" ] || exit 0

# With --target, build scripts are not instrumented.
build() {
    RUSTFLAGS="$1" "$cargo" build --release --quiet --bin framepress --target "$host" --target-dir "$2"
}

rm -rf "$work/raw"
mkdir -p "$work/raw"
raw="$(cd "$work/raw" && pwd)"

echo "pgo: building the instrumented program"
build "-Cprofile-generate=$raw" "$work/instrumented"
instrumented="$work/instrumented/$host/release/framepress"

# A typical workload: every kind of input, small and large, WebP and the extra pictures.
echo "pgo: letting it work"
bench() {
    STATS__ADDR=null LLVM_PROFILE_FILE="$raw/%p-%m.profraw" "$instrumented" bench "$@" >/dev/null
}
frames="${PGO_FRAMES:-600}"
for input in raw jpeg json; do
    bench --input "$input" --frames "$frames"
    ANALYSIS__ML_IMAGE=true ANALYSIS__THUMBNAIL=true bench --input "$input" --frames "$frames"
    bench --input "$input" --frames "$((frames / 4))" --size 1920x1080
done
ANALYSIS__ENABLED=false bench --frames "$frames"
REDIS_QUEUE__COMPRESSION_FORMAT=webp bench --frames "$((frames / 8))"

"$profdata" merge -o "$work/framepress.profdata" "$raw"/*.profraw
rm -rf "$raw"

echo "pgo: building the optimised program"
profile="$(cd "$work" && pwd)/framepress.profdata"
build "-Cprofile-use=$profile" "$work/optimised"
"$cargo" build --release --quiet --bin framepress
"$cargo" build --release --quiet -p framepress-perf

echo "pgo: measuring both alternately"
# shellcheck disable=SC2086 # a list of words
"$target/release/framepress-perf" compare --name pgo --bin "$target/release/framepress" \
    --against "$work/optimised/$host/release/framepress" ${PGO_FLAGS:-}
echo "pgo: the optimised program is $work/optimised/$host/release/framepress"

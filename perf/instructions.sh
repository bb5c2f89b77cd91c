#!/bin/sh
# instructions.sh: instructions per 1080p frame, on x86-64 (with AVX2) and on ARM64 (with NEON), both counted
# by qemu, and whether both give the same bits. Start-up is excluded: the difference of two counts is divided
# by the difference of their frames.
#
# The bits are those of this processor with its best vector code, and of ARM64 under qemu. Instruction counts
# are not times: processors differ in how many they execute at once.
set -eu

cargo="$(command -v cargo || echo "$HOME/.cargo/bin/cargo")"
status=0
sh deploy/arm64/setup.sh || status=$?
if [ "$status" -eq 3 ]; then
    echo "skipped: no instructions are counted" >&2
    exit 0
fi
[ "$status" -eq 0 ]

folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
cc -O2 -shared -fPIC -Wall -Wextra -o "$folder/count.so" perf/instructions.c
built() {
    "$@" bench --quiet --no-run --bench instructions --message-format json |
        sed -n 's/.*"executable":"\([^"]*instructions-[^"]*\)".*/\1/p' | tail -n 1
}
x86="$(built "$cargo")"
arm="$(built sh deploy/arm64/cargo.sh)"

# count EMULATOR PROGRAM CASE: instructions for one frame. The processor is the best that this qemu knows:
# AVX2, but no AVX-512.
few=2
many=6
count() {
    for frames in "$few" "$many"; do
        "$1" -cpu max -plugin "$folder/count.so,out=$folder/$frames" "$2" count "$3" "$frames"
    done
    echo $((($(cat "$folder/$many") - $(cat "$folder/$few")) / (many - few)))
}
printf '%-14s %16s %16s %8s  %s\n' case "x86-64, AVX2" "ARM64, NEON" ratio "same bits"
for case in decode-jpeg encode-jpeg encode-webp analyse scale whole-raw whole-jpeg; do
    here="$(count qemu-x86_64 "$x86" "$case")"
    there="$(count qemu-aarch64 "$arm" "$case")"
    same=yes
    [ "$("$x86" digest "$case")" = "$(qemu-aarch64-static "$arm" digest "$case")" ] || same=NO
    printf '%-14s %16d %16d %8s  %s\n' "$case" "$here" "$there" \
        "$(awk "BEGIN { printf \"%.2f\", $there / $here }")" "$same"
    [ "$same" = yes ] || exit 1
done

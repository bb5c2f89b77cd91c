#!/bin/sh
# release.sh: builds all files of a release in target/dist: Debian packages and tarballs for amd64 and ARM64,
# the Python package, the bill of materials and the checksums of all.
#
# The same commit gives the same bytes, in any folder: times are those of the commit, and paths are replaced.
# `release.sh check` builds it twice, in two clones, and compares. RELEASE_ARCHS="amd64" skips the other
# architecture.
set -eu

root="$(cd "$(dirname "$0")/.." && pwd)"
cd "$root"
cargo="$(command -v cargo || echo "$HOME/.cargo/bin/cargo")"
version="$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml | head -n 1)"

if [ "${1:-}" = check ]; then
    folder="$(mktemp -d)"
    trap 'rm -rf "$folder"' EXIT
    for number in one another-folder; do
        git clone --quiet . "$folder/$number"
        (cd "$folder/$number" && sh deploy/release.sh)
    done
    (cd "$folder/one/target/dist" && cat SHA256SUMS)
    if diff "$folder/one/target/dist/SHA256SUMS" "$folder/another-folder/target/dist/SHA256SUMS"; then
        echo "release: both builds have the same bytes"
        exit 0
    fi
    echo "release: the builds differ" >&2
    exit 1
fi

[ -z "$(git status --porcelain)" ] || echo "release: there are changes that are not committed" >&2
SOURCE_DATE_EPOCH="$(git log -1 --format=%ct)"
export SOURCE_DATE_EPOCH
# Paths that the compilers would embed in the programs.
home="${CARGO_HOME:-$HOME/.cargo}"
export RUSTFLAGS="--remap-path-prefix=$root=/framepress --remap-path-prefix=$home=/cargo"
CFLAGS="-ffile-prefix-map=$root=/framepress -ffile-prefix-map=$home=/cargo"
CXXFLAGS="$CFLAGS"
export CFLAGS CXXFLAGS
# Other flags need another target folder, as the usual one would be rebuilt at each change.
export CARGO_TARGET_DIR="$root/target/dist-build"

dist="$root/target/dist"
rm -rf "$dist"
mkdir -p "$dist"
tarball() {
    tar --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner --mode=go=rX \
        -C "$1" -cf - "$2" | gzip -9n >"$dist/$2.tar.gz"
}
# One architecture: the package, and a tarball of its files without Debian's own.
for_arch() {
    package="$(sh deploy/debian/package.sh release "$1" | tail -n 1)"
    arch="${1:-amd64}"
    cp "$package" "$dist/framepress_${version}_$arch.deb"
    name="framepress-$version-linux-$arch"
    unpacked="$CARGO_TARGET_DIR/$name"
    rm -rf "$unpacked" "$CARGO_TARGET_DIR/tree"
    mkdir -p "$CARGO_TARGET_DIR/tree"
    dpkg-deb -x "$package" "$unpacked"
    mv "$unpacked" "$CARGO_TARGET_DIR/tree/$name"
    cp LICENSE README.md CHANGELOG.md "$CARGO_TARGET_DIR/tree/$name/"
    tarball "$CARGO_TARGET_DIR/tree" "$name"
}

sh tests/setup.sh nasm cmake libssl-dev pkg-config python3 python3-venv
for arch in ${RELEASE_ARCHS:-amd64 arm64}; do
    case "$arch" in
        amd64) for_arch "" ;;
        arm64) if sh deploy/arm64/setup.sh; then for_arch arm64; else echo "release: SKIPPED: ARM64" >&2; fi ;;
        *) echo "amd64 or arm64, not $arch" >&2; exit 2 ;;
    esac
done

# The wheel and the source distribution of python/.
python="$CARGO_TARGET_DIR/python"
[ -x "$python/bin/python" ] || python3 -m venv "$python"
"$python/bin/pip" install --quiet --disable-pip-version-check build
rm -rf "$CARGO_TARGET_DIR/python-source"
git archive --prefix=python-source/ HEAD:python | tar -x -C "$CARGO_TARGET_DIR"
"$python/bin/python" -m build --outdir "$dist" "$CARGO_TARGET_DIR/python-source" >/dev/null

cp target/package/framepress.cdx.json "$dist/framepress-$version.cdx.json"
(cd "$dist" && sha256sum -- * >SHA256SUMS)
cat "$dist/SHA256SUMS"

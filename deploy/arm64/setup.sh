#!/bin/sh
# Installs the requirements for building and testing for ARM64 on Debian amd64: a compiler and a linker for
# ARM64, its libraries for linking and running, and qemu's user emulation.
#
# Adds the architecture arm64 to dpkg. Exits with 3, and says why, if that is impossible.
set -eu

unavailable() {
    echo "ARM64 cannot be built here: $*" >&2
    exit 3
}

[ "$(uname -m)" = x86_64 ] || unavailable "this is $(uname -m); the script crosses from x86_64"
sh tests/setup.sh cmake libssl-dev pkg-config python3

triple=aarch64-unknown-linux-gnu
# Debian's libc6-arm64-cross is only for the linker: programs that run with it hang when they create threads.
# They run with libc6:arm64.
packages="gcc-aarch64-linux-gnu g++-aarch64-linux-gnu libc6:arm64 libgcc-s1:arm64 libssl-dev:arm64"
packages="$packages qemu-user-static qemu-user"
# rustup's target works as well, if it is installed.
if ! [ -d "$(rustc --print target-libdir --target "$triple" 2>/dev/null)" ]; then
    packages="$packages rustc-web libstd-rust-web-dev:arm64"
fi
missing=""
for package in $packages; do
    dpkg-query -W -f '${db:Status-Status}\n' "$package" 2>/dev/null | grep -qx installed ||
        missing="$missing $package"
done
[ -n "$missing" ] || exit 0

command -v apt-get >/dev/null 2>&1 ||
    unavailable "please install:$missing (Debian's names), or \`rustup target add $triple\` for the compiler"
as_root=""
if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null 2>&1 || unavailable "install as root:$missing, after dpkg --add-architecture arm64"
    as_root=sudo
fi
echo "installing:$missing" >&2
export DEBIAN_FRONTEND=noninteractive
$as_root dpkg --add-architecture arm64
$as_root apt-get update -qq || unavailable "the package lists are unavailable"
# shellcheck disable=SC2086 # a list of words
$as_root apt-get install -qq --no-install-recommends $missing >/dev/null ||
    unavailable "not available:$missing; \`rustup target add $triple\` also installs the compiler"

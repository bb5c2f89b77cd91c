#!/bin/sh
# cargo.sh COMMAND ...: cargo for ARM64, with everything that makes C and Rust code for it and with
# qemu to run it. What it builds is in target/arm64/aarch64-unknown-linux-gnu.
set -eu

cargo="$(command -v cargo || echo "$HOME/.cargo/bin/cargo")"
triple=aarch64-unknown-linux-gnu
gnu=aarch64-linux-gnu

# rustup's target where it is there, else Debian's compiler. Another compiler needs a target folder of
# its own: the two would build everything anew by turns.
if ! [ -d "$(rustc --print target-libdir --target "$triple" 2>/dev/null)" ]; then
    export RUSTC=/usr/bin/rustc
fi
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target}/arm64"
export CARGO_BUILD_TARGET="$triple"
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER="$gnu-gcc"
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER=qemu-aarch64-static

# librdkafka's configure knows the plain names only, so build scripts get the compilers of the
# machine under HOST_.
export HOST_CC=cc HOST_CXX=c++ HOST_AR=ar
export CC="$gnu-gcc" CXX="$gnu-g++" AR="$gnu-ar" LD="$gnu-ld" NM="$gnu-nm"
export OBJDUMP="$gnu-objdump" STRIP="$gnu-strip" RANLIB="$gnu-ranlib"
export PKG_CONFIG_ALLOW_CROSS=1
export PKG_CONFIG_LIBDIR="/usr/lib/$gnu/pkgconfig:/usr/share/pkgconfig"

exec "$cargo" "$@"

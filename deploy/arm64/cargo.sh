#!/bin/sh
# cargo.sh COMMAND ...: cargo for ARM64, with the C and Rust compilers for it and with qemu to run its
# programs. The build is in target/arm64/aarch64-unknown-linux-gnu.
set -eu

cargo="$(command -v cargo || echo "$HOME/.cargo/bin/cargo")"
triple=aarch64-unknown-linux-gnu
gnu=aarch64-linux-gnu

# Use rustup's target if available, else Debian's compiler. Each compiler needs a separate target folder, as
# they would otherwise rebuild everything alternately.
if ! [ -d "$(rustc --print target-libdir --target "$triple" 2>/dev/null)" ]; then
    export RUSTC=/usr/bin/rustc
fi
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target}/arm64"
export CARGO_BUILD_TARGET="$triple"
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER="$gnu-gcc"
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER=qemu-aarch64-static

# librdkafka's configure reads only the plain names, so build scripts get the native compilers under HOST_.
export HOST_CC=cc HOST_CXX=c++ HOST_AR=ar
export CC="$gnu-gcc" CXX="$gnu-g++" AR="$gnu-ar" LD="$gnu-ld" NM="$gnu-nm"
export OBJDUMP="$gnu-objdump" STRIP="$gnu-strip" RANLIB="$gnu-ranlib"
export PKG_CONFIG_ALLOW_CROSS=1
export PKG_CONFIG_LIBDIR="/usr/lib/$gnu/pkgconfig:/usr/share/pkgconfig"

exec "$cargo" "$@"

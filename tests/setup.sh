#!/bin/sh
# Installs the named Debian packages, unless what they provide is already available. On another system it says
# what to install and stops.
set -eu

# Whether GStreamer has an element, by the names of its plugins.
gst_has() {
    case "$1" in
        x264enc) plugin=libgstx264.so ;;
        rtph264pay) plugin=libgstrtp.so ;;
    esac
    ls /usr/lib/*/gstreamer-1.0/"$plugin"
}

present() {
    case "$1" in
        prometheus) command -v promtool ;;
        chromium-driver) command -v chromedriver ;;
        python3-venv) python3 -c 'import ensurepip, venv' ;;
        docker-compose) docker compose version || command -v docker-compose ;;
        libjpeg-turbo-progs) command -v djpeg ;;
        gstreamer1.0-tools) command -v gst-launch-1.0 ;;
        gstreamer1.0-plugins-good) gst-inspect-1.0 jpegdec ;;
        systemd) command -v systemd-analyze ;;
        libssl-dev) pkg-config --exists openssl ;;
        default-jre-headless) command -v java ;;
        maven) command -v mvn ;;
        gir1.2-gst-rtsp-server-1.0)
            /usr/bin/python3 -c 'import gi; gi.require_version("GstRtspServer", "1.0")' &&
                gst_has x264enc && gst_has rtph264pay ;;
        *) command -v "$1" ;;
    esac >/dev/null 2>&1
}

missing=""
for package in "$@"; do
    present "$package" || missing="$missing $package"
done

# Test cameras need plugins besides the server.
case "$missing" in
    *gst-rtsp-server*)
        missing="$missing python3-gi gir1.2-gst-plugins-base-1.0 gstreamer1.0-plugins-base"
        missing="$missing gstreamer1.0-plugins-good gstreamer1.0-plugins-bad gstreamer1.0-plugins-ugly"
        ;;
esac

cargo="$(command -v cargo || echo "${HOME:-}/.cargo/bin/cargo")"
if [ ! -x "$cargo" ]; then
    echo "Rust is missing: install it as https://rustup.rs says, then come back" >&2
    exit 1
fi
if ! command -v cc >/dev/null 2>&1; then
    missing="$missing build-essential"
fi
[ -n "$missing" ] || exit 0

if ! command -v apt-get >/dev/null 2>&1; then
    echo "please install:$missing (Debian's names; redis-server 6.2 or later), then come back" >&2
    exit 1
fi
as_root=""
if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null 2>&1; then
        echo "please install as root: apt-get install$missing" >&2
        exit 1
    fi
    as_root="sudo"
fi

echo "installing:$missing"
export DEBIAN_FRONTEND=noninteractive
# shellcheck disable=SC2086 # a list of words
if ! $as_root apt-get install -qq --no-install-recommends $missing >/dev/null 2>&1; then
    # The package lists may be old or missing.
    $as_root apt-get update -qq
    $as_root apt-get install -qq --no-install-recommends $missing >/dev/null
fi

# Only promtool is needed, so the Prometheus service must not keep running.
case "$missing" in
    *prometheus*) $as_root systemctl disable --quiet --now prometheus 2>/dev/null || true ;;
esac

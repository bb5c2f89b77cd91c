#!/bin/sh
# test.sh: builds the engine's image by buildah from the unchanged deploy/Dockerfile, and runs a container of
# it by podman: read-only, without capabilities, under the image's own account.
#
# The base images come from registries. Without registries, the stage `build` is replaced by the program of
# the tests with the files of deploy/image/root.sh; `docker build` does the same with a release build. The
# image with ffmpeg is built only if its base is available.
set -eu

skipped() {
    echo "skipped: no image is built: $*" >&2
    exit 0
}
[ "$(id -u)" = 0 ] || skipped "that needs root here"
# With control groups of both versions crun fails, so use a namespace that has only one.
if [ "$(stat -f -c %T /sys/fs/cgroup)" = tmpfs ] && [ -z "${IMAGE_TEST_VIEW:-}" ]; then
    IMAGE_TEST_VIEW=1 exec unshare --mount --propagation private sh -c '
        if mount -t cgroup2 cgroup2 /sys/fs/cgroup; then exec sh "$0"; fi
        echo "skipped: no image is built: no view of control groups" >&2' "$0"
fi
sh tests/setup.sh redis-server buildah podman crun || skipped "no buildah and podman"
cargo="$(command -v cargo || echo "$HOME/.cargo/bin/cargo")"
"$cargo" build --quiet --bin framepress
version="$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml | head -n 1)"

folder="$(mktemp -d)"
redis=""
# Images and containers of this run only. Without an overlay file system in containers, only vfs works.
storage="--root $folder/storage --runroot $folder/run --storage-driver vfs"
finish() {
    # shellcheck disable=SC2086 # a list of words
    podman $storage rm --force --all >/dev/null 2>&1 || true
    [ -z "$redis" ] || kill "$redis" 2>/dev/null || true
    rm -rf "$folder"
}
trap finish EXIT
fail() {
    echo "image: $*" >&2
    exit 1
}

target="${CARGO_TARGET_DIR:-target}"
program="$folder/build/src/target/release/framepress"
mkdir -p "$(dirname "$program")"
strip -o "$program" "$target/debug/framepress"
sh deploy/image/root.sh "$program" "$folder/build/image"
printf 'FROM scratch\nCOPY . /\n' >"$folder/Dockerfile"
# shellcheck disable=SC2086
{
    buildah $storage bud --isolation chroot --quiet -t localhost/build \
        -f "$folder/Dockerfile" "$folder/build" >/dev/null
    # Docker's format, as the other one has no health checks.
    buildah $storage bud --isolation chroot --quiet --format docker --pull-never \
        --build-context build=container-image://localhost/build \
        -t "framepress:$version" -f deploy/Dockerfile . >/dev/null
}

root="$folder"
. deploy/debian/redis.sh
start_redis || fail "no redis-server"
stats="$(free_port)"

# No service manager runs the health check on its timer here, so the script runs it below.
# shellcheck disable=SC2086
podman $storage run --detach --name engine --read-only --cap-drop ALL --security-opt no-new-privileges \
    --network host --cgroups disabled --ulimit nofile=4096:4096 --ulimit nproc=1024:1024 --no-healthcheck \
    --env "REDIS_QUEUE__URL=redis://127.0.0.1:$port/0" --env "STATS__ADDR=127.0.0.1:$stats" \
    "framepress:$version" >"$folder/started" 2>&1 ||
    case "$(cat "$folder/started")" in
        *"not permitted"* | *cgroup*) skipped "no container runs here: $(tail -n 1 "$folder/started")" ;;
        *) fail "the container does not start: $(tail -n 1 "$folder/started")" ;;
    esac
inside() {
    # shellcheck disable=SC2086
    podman $storage exec engine /usr/bin/framepress "$@"
}
for wait in $(seq 100); do
    inside health --ready --url "http://127.0.0.1:$stats" >/dev/null 2>&1 && break
    sleep 0.2
done
# shellcheck disable=SC2086
[ "$(inside health --url "http://127.0.0.1:$stats")" = ok ] ||
    fail "it is not healthy: $(podman $storage logs engine 2>&1 | tail -n 3)"
inside ingest --redis-url "redis://127.0.0.1:$port/0" --camera cabinet --source synthetic --limit 5 --fps 0 \
    2>/dev/null || fail "it cannot send frames"
five_results true || fail "no results"
# shellcheck disable=SC2086
pid="$(podman $storage inspect --format '{{.State.Pid}}' engine)"
grep -q '^Uid:[[:space:]]*10001' "/proc/$pid/status" || fail "it runs as another account than 10001"
grep -q '^CapEff:[[:space:]]*0*$' "/proc/$pid/status" || fail "it has capabilities"
# shellcheck disable=SC2086
{
    podman $storage image inspect "framepress:$version" | grep -q '"health"' ||
        fail "the image has no health check"
    podman $storage stop --time 20 engine >/dev/null
    code="$(podman $storage inspect --format '{{.State.ExitCode}}' engine)"
    size="$(podman $storage image inspect --format '{{.Size}}' "framepress:$version")"
}
[ "$code" = 0 ] || fail "it ends with $code"
echo "image: built from deploy/Dockerfile ($((size / 1000000)) MB); run read-only, as 10001, without" \
    "capabilities: healthy, 5 frames, ended in order"

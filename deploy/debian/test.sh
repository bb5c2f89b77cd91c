#!/bin/sh
# Unpacks the package and runs what it holds: the program with the configuration it ships, on a
# redis-server of its own. Installs nothing.
set -eu

package="$(sh deploy/debian/package.sh debug | tail -n 1)"
root="$(mktemp -d)"
redis=""
engine=""
finish() {
    [ -z "$engine" ] || kill "$engine" 2>/dev/null || true
    [ -z "$redis" ] || kill "$redis" 2>/dev/null || true
    rm -rf "$root"
}
trap finish EXIT
fail() {
    echo "package: $*" >&2
    cat "$root"/*.log >&2 2>/dev/null || true
    exit 1
}

dpkg-deb -x "$package" "$root/files"
dpkg-deb -e "$package" "$root/control"
program="$root/files/usr/bin/framepress"
config="$root/files/etc/framepress/framepress.yaml"

for file in \
    usr/bin/framepress \
    etc/framepress/framepress.yaml \
    usr/lib/systemd/system/framepress.service \
    usr/share/doc/framepress/copyright \
    usr/share/doc/framepress/examples/framepress.example.yaml \
    usr/share/man/man1/framepress.1.gz \
    usr/share/man/man1/framepress-dlq-replay.1.gz \
    usr/share/bash-completion/completions/framepress; do
    [ -e "$root/files/$file" ] || [ -e "$root/files/${file#usr/}" ] || fail "$file is missing"
done
ls "$root/files/usr/share/doc/framepress/" | grep -qi changelog || fail "the changelog is missing"
grep -qx /etc/framepress/framepress.yaml "$root/control/conffiles" || fail "no conffile"
grep -q '^Depends: .*libc6' "$root/control/control" || fail "libc6 is not named"
"$program" --version | grep -q '^framepress ' || fail "the program does not start"

# A free port for Redis: somebody else may take it in between, so try again.
for attempt in 1 2 3 4 5; do
    port="$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')"
    redis-server --bind 127.0.0.1 --port "$port" --save "" --dir "$root" >"$root/redis.log" 2>&1 &
    redis=$!
    for wait in $(seq 300); do
        redis-cli -p "$port" ping >/dev/null 2>&1 && break 2
        kill -0 "$redis" 2>/dev/null || break
        sleep 0.1
    done
done
export REDIS_QUEUE__URL="redis://127.0.0.1:$port/0" STATS__ADDR=127.0.0.1:0

"$program" run --config "$config" >"$root/engine.log" 2>&1 &
engine=$!
"$program" ingest --config "$config" --camera cabinet --source synthetic --limit 5 --fps 0 \
    >"$root/ingest.log" 2>&1 || fail "ingest fails"
for wait in $(seq 600); do
    [ "$(redis-cli -p "$port" xlen processed_frames)" = 5 ] && break
    kill -0 "$engine" 2>/dev/null || fail "the engine has ended"
    sleep 0.1
done
[ "$(redis-cli -p "$port" xlen processed_frames)" = 5 ] || fail "no results"
kill "$engine"
wait "$engine" || fail "the engine does not end in order"
engine=""
echo "package: unpacked and run: $(basename "$package")"

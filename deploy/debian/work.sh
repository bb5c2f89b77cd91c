#!/bin/sh
# work.sh PROGRAM CONFIG: shows that a program works with a configuration, on a redis-server of its
# own: five frames in, five results out, an end in order. What is wrong is said on standard error.
set -eu

program="$1"
config="$2"
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
    echo "$program: $*" >&2
    cat "$root"/*.log >&2 2>/dev/null || true
    exit 1
}

"$program" --version | grep -q '^framepress ' || fail "does not start"

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

#!/bin/sh
# work.sh PROGRAM CONFIG: checks that a program works with a configuration on a temporary redis-server: five
# frames in, five results out, a clean end. Errors go to standard error.
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

. "$(dirname "$0")/redis.sh"
start_redis || fail "no redis-server"
export REDIS_QUEUE__URL="redis://127.0.0.1:$port/0" STATS__ADDR=127.0.0.1:0

"$program" run --config "$config" >"$root/engine.log" 2>&1 &
engine=$!
"$program" ingest --config "$config" --camera cabinet --source synthetic --limit 5 --fps 0 \
    >"$root/ingest.log" 2>&1 || fail "ingest fails"
five_results kill -0 "$engine" || fail "no results"
kill "$engine"
wait "$engine" || fail "the engine does not end in order"
engine=""

# Sourced by work.sh and the test of the image: starts a redis-server with its files in $root.

# Prints a free port.
free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# Starts the server, and sets `port` and `redis`, its process id. Tries again if another process takes the
# port in between.
start_redis() {
    for attempt in 1 2 3 4 5; do
        port="$(free_port)"
        redis-server --bind 127.0.0.1 --port "$port" --save "" --dir "$root" >"$root/redis.log" 2>&1 &
        redis=$!
        for wait in $(seq 300); do
            ! redis-cli -p "$port" ping >/dev/null 2>&1 || return 0
            kill -0 "$redis" 2>/dev/null || break
            sleep 0.1
        done
    done
    return 1
}

# Waits for five results, as long as the given command succeeds.
five_results() {
    for wait in $(seq 600); do
        [ "$(redis-cli -p "$port" xlen processed_frames)" != 5 ] || return 0
        "$@" || return 1
        sleep 0.1
    done
    return 1
}

#!/bin/sh
# boot.sh PACKAGE: boots systemd in a view of this system whose changes stay in memory, with separate
# processes, network and control groups, and runs booted.py with the package in it.
#
# Needs root, the right to mount, control groups of version 2, and systemd. If one is missing (as in most
# containers), it says so and starts no unit.
set -eu

package="$1"
MISSED="the units are NOT run by systemd; only looked at"
. deploy/debian/mounts.sh

[ "$(id -u)" = 0 ] || skipped "booting needs root"
[ -x /lib/systemd/systemd ] || skipped "there is no systemd here"
grep -qw cgroup2 /proc/filesystems || skipped "this kernel has no control groups of version 2"
unshare --mount --pid --cgroup --uts --ipc --net --fork true 2>/dev/null || skipped "this root may not do so"

view="$(mktemp -d)"
shared="$(mktemp -d)"
trap 'rm -rf --one-file-system "$view" "$shared"' EXIT
cp "$package" "$shared/framepress.deb"
cp deploy/debian/booted.py "$shared/"
libs="$(sh tests/kafka/fetch.sh 2>/dev/null || true)"
cat >"$shared/booted.service" <<END
[Unit]
Description=The test of what is installed
After=basic.target
SuccessAction=exit
SuccessActionExitStatus=0
FailureAction=exit
FailureActionExitStatus=1
[Service]
Type=oneshot
Environment=KAFKA_LIBS=${libs:+/root/package/libs} LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive HOME=/root
ExecStart=/usr/bin/python3 -u /root/package/booted.py
StandardOutput=append:/root/package/log
StandardError=append:/root/package/log
END
printf '[Unit]\nRequires=basic.target booted.service\n' >"$shared/booted.target"

code=0
# A system that hangs is killed together with its processes.
VIEW="$view" SHARED="$shared" LIBS="$libs" timeout -k 5 400 \
    unshare --mount --propagation private --pid --cgroup --uts --ipc --net --fork --kill-child sh -eu -c '
        . deploy/debian/mounts.sh
        mount_view
        mount -t sysfs sysfs "$VIEW/root/sys" || exit 100
        mount -t cgroup2 cgroup2 "$VIEW/root/sys/fs/cgroup" 2>/dev/null || {
            mount -t tmpfs groups "$VIEW/root/sys/fs/cgroup" || exit 100
            mount -t cgroup2 cgroup2 "$VIEW/root/sys/fs/cgroup" || exit 100
        }
        mkdir -p "$VIEW/root/root/package"
        mount --bind "$SHARED" "$VIEW/root/root/package" || exit 100
        # A booting system empties its /tmp, where this checkout may be.
        if [ -n "$LIBS" ]; then
            mkdir "$VIEW/root/root/package/libs"
            mount --bind "$LIBS" "$VIEW/root/root/package/libs" || exit 100
        fi
        cp "$SHARED/booted.service" "$SHARED/booted.target" "$VIEW/root/etc/systemd/system/"
        # Not chroot: inside one, the kernel allows no unit its own users (PrivateUsers).
        cd "$VIEW/root"
        pivot_root . . && umount -l . || exit 100
        cd /
        exec env -i container=framepress PATH=/usr/sbin:/usr/bin:/sbin:/bin \
            /lib/systemd/systemd --unit=booted.target --log-target=journal --show-status=no
    ' >"$shared/console" 2>&1 </dev/null || code=$?
cat "$shared/log" 2>/dev/null || true
skip_unless_mounted "$code"
# The test writes a line before anything can fail.
[ -s "$shared/log" ] || skipped "systemd does not boot here: $(tail -n 1 "$shared/console")"
[ "$code" != 124 ] && [ "$code" != 137 ] || { echo "package: the booted system hangs" >&2; tail "$shared/console" >&2; }
exit "$code"

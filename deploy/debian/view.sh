#!/bin/sh
# view.sh PACKAGE: runs installed.sh with the package in a view of this system whose changes stay in memory
# and are discarded at the end. The view has its own processes, which end with it, and an empty /run, so that
# the service manager is not notified.
#
# Needs root and the right to mount. If that is missing (as in most containers), it says so and installs
# nothing.
set -eu

package="$1"
MISSED="the package is NOT installed, upgraded and purged; only unpacked and run"
. deploy/debian/mounts.sh

[ "$(id -u)" = 0 ] || skipped "installing the package needs root"
unshare --mount --pid --fork true 2>/dev/null || skipped "this root may not mount anything"

view="$(mktemp -d)"
trap 'rm -rf --one-file-system "$view"' EXIT
code=0
PACKAGE="$package" VIEW="$view" unshare --mount --propagation private --pid --fork --kill-child \
    sh -eu -c '
        . deploy/debian/mounts.sh
        mount_view
        mount -t tmpfs tmp "$VIEW/root/tmp" || exit 100
        chmod 1777 "$VIEW/root/tmp"
        mkdir "$VIEW/root/tmp/package"
        cp "$PACKAGE" "$VIEW/root/tmp/package/framepress.deb"
        cp deploy/debian/installed.sh deploy/debian/work.sh deploy/debian/redis.sh "$VIEW/root/tmp/package/"
        exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 \
            DEBIAN_FRONTEND=noninteractive \
            chroot "$VIEW/root" sh /tmp/package/installed.sh
    ' || code=$?
skip_unless_mounted "$code"
exit "$code"

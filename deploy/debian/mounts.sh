# Read by view.sh and boot.sh, before and within namespaces of their own.

# Says what could not be tried and what was not, $MISSED, and ends.
skipped() {
    echo "skipped: $*" >&2
    echo "skipped: $MISSED" >&2
    exit 0
}

# Makes $VIEW/root a view of this system whose every change is kept in memory. Ends with 100 where that may
# not be mounted, with 101 where it would not show the whole system; no test uses these codes.
mount_view() {
    mount -t tmpfs -o mode=755 view "$VIEW" || exit 100
    mkdir "$VIEW/changes" "$VIEW/work" "$VIEW/root"
    layers="lowerdir=/,upperdir=$VIEW/changes,workdir=$VIEW/work"
    mount -t overlay -o "$layers" view "$VIEW/root" || exit 100
    mount -t proc proc "$VIEW/root/proc" || exit 100
    mount --rbind /dev "$VIEW/root/dev" || exit 100
    mount -t tmpfs -o mode=755 run "$VIEW/root/run" || exit 100
    # Where these have file systems of their own, they are not in the view.
    [ -s "$VIEW/root/var/lib/dpkg/status" ] && [ -x "$VIEW/root/usr/bin/dpkg" ] || exit 101
}

# Ends as the codes of mount_view ask for; other codes are the caller's.
skip_unless_mounted() {
    case "$1" in
        100) skipped "this root may not mount a view of the system" ;;
        101) skipped "/usr or /var is a file system of its own, which a view does not show" ;;
    esac
}

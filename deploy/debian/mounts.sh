# Sourced by view.sh and boot.sh, before and within their namespaces.

# Says what was impossible and what was not tested, $MISSED, and exits.
skipped() {
    echo "skipped: $*" >&2
    echo "skipped: $MISSED" >&2
    exit 0
}

# Makes $VIEW/root a view of this system whose changes stay in memory. Exits with 100 if that may not be
# mounted, with 101 if it would not show the whole system; no test uses these codes.
mount_view() {
    mount -t tmpfs -o mode=755 view "$VIEW" || exit 100
    mkdir "$VIEW/changes" "$VIEW/work" "$VIEW/root"
    layers="lowerdir=/,upperdir=$VIEW/changes,workdir=$VIEW/work"
    mount -t overlay -o "$layers" view "$VIEW/root" || exit 100
    mount -t proc proc "$VIEW/root/proc" || exit 100
    mount --rbind /dev "$VIEW/root/dev" || exit 100
    mount -t tmpfs -o mode=755 run "$VIEW/root/run" || exit 100
    # Folders on separate file systems are not in the view.
    [ -s "$VIEW/root/var/lib/dpkg/status" ] && [ -x "$VIEW/root/usr/bin/dpkg" ] || exit 101
}

# Handles the exit codes of mount_view; the caller handles other codes.
skip_unless_mounted() {
    case "$1" in
        100) skipped "this root may not mount a view of the system" ;;
        101) skipped "/usr or /var is a file system of its own, which a view does not show" ;;
    esac
}

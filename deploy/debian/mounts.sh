# Read by view.sh and boot.sh, within namespaces of their own: $VIEW/root becomes a view of this system
# whose every change is kept in memory. Ends with 100 where that may not be mounted, with 101 where it
# would not show the whole system.
mount -t tmpfs -o mode=755 view "$VIEW" || exit 100
mkdir "$VIEW/changes" "$VIEW/work" "$VIEW/root"
layers="lowerdir=/,upperdir=$VIEW/changes,workdir=$VIEW/work"
mount -t overlay -o "$layers" view "$VIEW/root" || exit 100
mount -t proc proc "$VIEW/root/proc" || exit 100
mount --rbind /dev "$VIEW/root/dev" || exit 100
mount -t tmpfs -o mode=755 run "$VIEW/root/run" || exit 100
# Where these have file systems of their own, they are not in the view.
[ -s "$VIEW/root/var/lib/dpkg/status" ] && [ -x "$VIEW/root/usr/bin/dpkg" ] || exit 101

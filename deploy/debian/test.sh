#!/bin/sh
# Tests the package as users get it: its contents, run where it was unpacked, then installed, upgraded and
# purged in a temporary view of this system, and under a separate systemd. Changes nothing outside the target
# folder.
set -eu

package="$(sh deploy/debian/package.sh debug | tail -n 1)"
root="$(mktemp -d)"
trap 'rm -rf "$root"' EXIT
fail() {
    echo "package: $*" >&2
    exit 1
}

dpkg-deb -x "$package" "$root/files"
dpkg-deb -e "$package" "$root/control"

for file in \
    usr/bin/framepress \
    etc/framepress/framepress.yaml \
    usr/lib/systemd/system/framepress.service \
    usr/lib/systemd/system/framepress-ingest.service \
    usr/lib/systemd/system/framepress-bridge@.service \
    usr/lib/systemd/system/framepress-cameras.service \
    usr/share/doc/framepress/copyright \
    usr/share/doc/framepress/framepress.cdx.json \
    usr/share/doc/framepress/examples/framepress.example.yaml \
    usr/share/man/man1/framepress.1.gz \
    usr/share/man/man1/framepress-dlq-replay.1.gz \
    usr/share/bash-completion/completions/framepress; do
    [ -e "$root/files/$file" ] || [ -e "$root/files/${file#usr/}" ] || fail "$file is missing"
done
ls "$root/files/usr/share/doc/framepress/" | grep -qi changelog || fail "the changelog is missing"
grep -q '"bomFormat": "CycloneDX"' "$root/files/usr/share/doc/framepress/framepress.cdx.json" ||
    fail "the bill of materials is none"
grep -qx /etc/framepress/framepress.yaml "$root/control/conffiles" || fail "no conffile"
grep -q '^Depends: .*libc6' "$root/control/control" || fail "libc6 is not named"
grep -q '^Depends: .*libssl3' "$root/control/control" || fail "libssl3, for the bridge, is not named"
sh deploy/debian/work.sh "$root/files/usr/bin/framepress" "$root/files/etc/framepress/framepress.yaml"
echo "package: unpacked and run: $(basename "$package")"

sh deploy/debian/view.sh "$package"
sh deploy/debian/boot.sh "$package"

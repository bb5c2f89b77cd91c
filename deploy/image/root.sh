#!/bin/sh
# root.sh PROGRAM FOLDER: the root folder of a container of the program: the program, its linked libraries
# with their licences, certificates, an account, a /tmp.
set -eu

program="$1"
root="$2"
[ ! -e "$root" ] || { echo "$root is there already" >&2; exit 1; }

install -d -m 755 "$root" "$root/usr/bin" "$root/etc/ssl/certs" "$root/etc/framepress"
install -d -m 1777 "$root/tmp"
install -m 755 "$program" "$root/usr/bin/framepress"

# Every library under the name that the dynamic linker looks for; the linker itself is one of them.
ldd "$program" | sed -n 's/^.*=> \(\/[^ ]*\) .*/\1/p; s/^[[:space:]]*\(\/[^ ]*\) (0x.*/\1/p' | sort -u |
while read -r library; do
    install -D -m 755 "$library" "$root$library"
    real="$(readlink -f "$library")"
    package="$(dpkg-query -S "$real" "${real#/usr}" 2>/dev/null | head -n 1 | cut -d: -f1)"
    [ -n "$package" ] || { echo "$library belongs to no package" >&2; exit 1; }
    install -D -m 644 "/usr/share/doc/$package/copyright" "$root/usr/share/doc/$package/copyright"
done

install -m 644 /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
echo 'hosts: files dns' >"$root/etc/nsswitch.conf"
echo 'framepress:x:10001:10001::/nonexistent:/usr/sbin/nologin' >"$root/etc/passwd"
echo 'framepress:x:10001:' >"$root/etc/group"

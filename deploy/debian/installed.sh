#!/bin/sh
# The life of the package on a machine: installed, run, installed again, upgraded, removed, purged. Only
# view.sh may run this, as it changes the system it sees.
set -eu

here=/tmp/package
config=/etc/framepress/framepress.yaml
unit=/usr/lib/systemd/system/framepress.service
fail() {
    echo "package: $*" >&2
    exit 1
}
state() {
    dpkg-query -W -f '${db:Status-Status}' framepress 2>/dev/null || true
}
# All files with this name, except logs of dpkg and others.
left() {
    find /etc /usr /var -xdev -name '*framepress*' -not -path '/var/log/*' -not -path '/var/cache/*' | sort
}

[ ! -d /run/systemd/system ] || fail "this is no view but the system itself"
# The package may be installed on the tester's machine, and the checkout may be in one of the folders.
[ -z "$(state)" ] || dpkg -P framepress >/dev/null
before="$(left)"

dpkg -i "$here/framepress.deb" >"$here/dpkg.log" 2>&1 || { cat "$here/dpkg.log" >&2; fail "not installed"; }
[ "$(state)" = installed ] || fail "it is $(state)"
[ "$(dpkg-query -W -f '${Conffiles}' framepress | grep -c "$config")" = 1 ] || fail "no conffile"
dpkg --verify framepress || fail "files differ from those in the package"
[ -s "$unit" ] || unit="${unit#/usr}"
[ -s "$unit" ] || fail "no systemd unit"
if command -v systemctl >/dev/null; then
    # Installed, but not enabled, as nothing is configured yet.
    [ "$(systemctl --root=/ is-enabled framepress.service 2>/dev/null)" = disabled ] \
        || fail "the service is not there, or enabled without being asked"
fi

# The program that the unit starts exists and works.
start="$(sed -n 's/^ExecStart=//p' "$unit")"
[ "$start" = "/usr/bin/framepress run --config $config" ] || fail "the unit starts $start"
sh "$here/work.sh" /usr/bin/framepress "$config"
man -w framepress >/dev/null 2>&1 || [ -s /usr/share/man/man1/framepress.1.gz ] || fail "no manual page"

# The operator's changes stay when the same package is installed again, and when a later one with a different
# configuration is.
echo '# edited by hand' >>"$config"
cp "$config" "$here/edited"
kept() {
    cmp -s "$config" "$here/edited" || fail "the edited $config is gone after $1"
}
dpkg -i "$here/framepress.deb" >"$here/dpkg.log" 2>&1 </dev/null || { cat "$here/dpkg.log" >&2; fail "not again"; }
kept "installing it again"
dpkg-deb -R "$here/framepress.deb" "$here/later"
sed -i 's/^Version: .*/&+later/' "$here/later/DEBIAN/control"
echo '# of a later version' >>"$here/later$config"
(cd "$here/later" && find . -path ./DEBIAN -prune -o -type f -printf '%P\0' | xargs -0 md5sum >DEBIAN/md5sums)
dpkg-deb --root-owner-group -Znone -b "$here/later" "$here/later.deb" >/dev/null
dpkg --force-confdef --force-confold -i "$here/later.deb" >"$here/dpkg.log" 2>&1 </dev/null \
    || { cat "$here/dpkg.log" >&2; fail "no upgrade"; }
kept "an upgrade"
dpkg-query -W -f '${Version}' framepress | grep -q '+later$' || fail "not the later version"
grep -q 'of a later version' "$config.dpkg-dist" || fail "the new configuration is not beside it"
sh "$here/work.sh" /usr/bin/framepress "$config"

dpkg -r framepress >"$here/dpkg.log" 2>&1 || { cat "$here/dpkg.log" >&2; fail "not removed"; }
[ "$(state)" = config-files ] || fail "removed, it is $(state)"
[ ! -e /usr/bin/framepress ] && [ ! -e "$unit" ] || fail "removed, and still there"
kept "the removal"
dpkg -P framepress >"$here/dpkg.log" 2>&1 || { cat "$here/dpkg.log" >&2; fail "not purged"; }
[ -z "$(state)" ] || [ "$(state)" = not-installed ] || fail "purged, it is $(state)"
[ "$(left)" = "$before" ] || fail "purged, and this is left: $(left)"
echo "package: installed, run, upgraded with its configuration kept, removed, purged"

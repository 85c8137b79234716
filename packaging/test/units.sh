#!/usr/bin/env bash
# The unit files, as systemd itself reads them: no warning, and an exposure of
# 1.2 at most. systemd-analyze verify succeeds even on a misspelt key, so
# whatever it says is a failure.
#
#   packaging/test/units.sh [SUITE...]     by default bookworm and trixie
set -euo pipefail
. "$(dirname "$0")/lib.sh"

SYSTEM_UNITS=(grantexd.socket grantexd.service grantexd@agent.socket grantexd@agent.service system-grantexd.slice)
USER_UNITS=(grantexd.socket grantexd.service)

# lay_out ROOT puts everything where the packages put it. What verify asks of the
# program and of the manual is only that they are there.
lay_out() {
	install -m 0755 /bin/true "$1/usr/bin/grantexd"
	install -m 0644 "$TOP"/systemd/*.service "$TOP"/systemd/*.socket "$TOP"/systemd/*.slice "$1/usr/lib/systemd/system/"
	install -m 0644 "$TOP"/systemd/user/* "$1/usr/lib/systemd/user/"
	install -m 0644 "$TOP/systemd/sysusers.d/grantexd.conf" "$1/usr/lib/sysusers.d/"
	install -m 0644 "$TOP/systemd/tmpfiles.d/grantexd.conf" "$1/usr/lib/tmpfiles.d/"
	mkdir -p "$1/run/user/0"
	mount -t proc proc "$1/proc"
	at_exit umount "$1/proc"
}

# silent WHAT COMMAND... passes if the command succeeds and says nothing.
silent() {
	local what=$1 said; shift
	said=$("$@" 2>&1) || fail "$what: $said"
	[ -z "$said" ] || fail "$what: $said"
	ok "$what"
}

check_suite() {
	local root=$WORK/$1 unit said
	overlay "$1" "$1"
	lay_out "$root"
	say "$1, $(chroot "$root" systemctl --version | head -n 1)"
	chroot "$root" systemd-sysusers grantexd.conf >/dev/null 2>&1 || fail "systemd-sysusers"
	silent "tmpfiles.d" chroot "$root" systemd-tmpfiles --create grantexd.conf
	for unit in "${SYSTEM_UNITS[@]}"; do
		silent "$unit has no warning" chroot "$root" systemd-analyze verify --man=no "$unit"
	done
	for unit in "${USER_UNITS[@]}"; do
		silent "$unit of users has no warning" \
			chroot "$root" env XDG_RUNTIME_DIR=/run/user/0 systemd-analyze --user verify --man=no "/usr/lib/systemd/user/$unit"
	done
	for unit in grantexd.service grantexd@agent.service; do
		said=$(chroot "$root" systemd-analyze security --offline=true --threshold=12 --no-pager "$unit" 2>&1) ||
			fail "$unit is too exposed: $(grep -v '^✓' <<<"$said")"
		ok "$unit: $(tail -n 1 <<<"$said" | sed 's/.*: //')"
	done
}

[ $# -gt 0 ] || set -- bookworm trixie
for suite in "$@"; do check_suite "$suite"; done

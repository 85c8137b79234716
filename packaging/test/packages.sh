#!/usr/bin/env bash
# The deb, rpm and apk packages: what is in them, what lintian says, and what
# they do to a system that has not booted, such as an image that is being built.
# systemd.sh has what the deb does to one that has.
#
# PACKAGES may name a directory with packages of versions 1.0.0 and 1.1.0.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

SUITE=bookworm
DEB_ARCH=$(dpkg --print-architecture 2>/dev/null) || skip "this is no Debian"
RPM_ARCH=$(uname -m)

build_packages() {
	[ -n "${PACKAGES:-}" ] && return
	PACKAGES=$WORK/packages
	for version in 1.0.0 1.1.0; do
		VERSION=$version "$TOP/packaging/build-packages.sh" "$PACKAGES" >"$WORK/build.log" 2>&1 ||
			fail "the packages can't be built: $(tail -n 5 "$WORK/build.log")"
	done
}

check_lintian() {
	local deb said
	need lintian
	for deb in "$PACKAGES"/grantexd_1.1.0-1_*.deb; do
		said=$(lintian --allow-root --fail-on error,warning "$deb" 2>&1) || fail "lintian of $(basename "$deb"): $said"
		ok "lintian says nothing of $(basename "$deb")"
	done
}

# listing KIND prints mode and path of what a package installs.
listing() {
	case $1 in
	deb) dpkg-deb -c "$PACKAGES/grantexd_1.1.0-1_$DEB_ARCH.deb" | awk '$1 !~ /^d/ {print $1, substr($6, 2)}' ;;
	rpm) rpm -qplv "$PACKAGES/grantexd-1.1.0-1.$RPM_ARCH.rpm" | awk '$1 !~ /^d/ {print $1, $NF}' ;;
	apk) tar -tvzf "$PACKAGES/grantexd_1.1.0-r1_$RPM_ARCH.apk" 2>/dev/null | awk '$1 !~ /^d/ && $6 !~ /^\./ {print $1, "/" $6}' ;;
	esac
}

check_contents() {
	local kind
	need rpm
	for kind in deb rpm apk; do
		listing $kind >"$WORK/$kind.list"
		refused "nothing in the $kind is writable for others" grep -E '^-....w|^-.......w' "$WORK/$kind.list"
		for path in /usr/bin/grantexd /etc/grantexd/config.yaml /usr/lib/systemd/system/grantexd@.socket \
			/usr/lib/sysusers.d/grantexd.conf /usr/lib/tmpfiles.d/grantexd.conf /usr/share/man/man1/grantexd.1.gz \
			/usr/share/bash-completion/completions/grantexd /usr/share/doc/grantexd/third-party-licenses.gz; do
			grep -q " $path\$" "$WORK/$kind.list" || fail "$path is not in the $kind"
		done
		ok "everything is in the $kind"
	done
	# What only one of them has, or has elsewhere.
	own='/etc/init.d/|/usr/share/zsh/|/lintian/|changelog'
	diff <(grep -vE "$own" "$WORK/deb.list" | sort) <(grep -vE "$own" "$WORK/rpm.list" | sort) || fail "deb and rpm differ"
	diff <(grep -vE "$own" "$WORK/deb.list" | sort) <(grep -vE "$own" "$WORK/apk.list" | sort) || fail "deb and apk differ"
	ok "all kinds install the same"
	mkdir "$WORK/apk"
	tar -C "$WORK/apk" -xzf "$PACKAGES/grantexd_1.1.0-r1_$RPM_ARCH.apk" 2>/dev/null
	for script in "$WORK"/apk/.p*-*; do sh -n "$script" || fail "$(basename "$script")"; done
	sh -n "$WORK/apk/etc/init.d/grantexd" || fail "the OpenRC service"
	ok "the apk's scripts are well-formed"
}

# chroot_has WHAT... as in test(1).
chroot_has() { chroot "$WORK/$1" test "${@:2}"; }

check_deb() {
	local root=$WORK/deb said
	overlay $SUITE deb
	mount -t proc proc "$root/proc"
	at_exit umount "$root/proc"
	cp "$PACKAGES"/grantexd_1.[01].0-1_"$DEB_ARCH".deb "$root/root/"
	chroot "$root" sh -c 'dpkg -i /root/grantexd_1.0.0-*.deb' >"$WORK/dpkg.log" 2>&1 || fail "dpkg -i: $(tail -n 3 "$WORK/dpkg.log")"
	expect "the program runs and knows its version" 1.0.0 "$(chroot "$root" grantexd version | grep -oE '[0-9]+\.[0-9]+\.[0-9]+' | head -n 1)"
	expect "user and groups are made" 3 "$(grep -cE '^(grantexd|grantex-clients|grantex-ledger):' "$root/etc/group")"
	chroot_has deb -h /etc/systemd/system/sockets.target.wants/grantexd.socket || fail "the socket is not enabled"
	ok "the socket is enabled for the next boot"
	# An administrator's doings.
	echo '# mine' >>"$root/etc/grantexd/config.yaml"
	(umask 027; echo grant >"$root/etc/grantexd/grant")
	chroot "$root" systemctl -q disable grantexd.socket 2>/dev/null
	chroot "$root" sh -c 'dpkg -i /root/grantexd_1.1.0-*.deb' </dev/null >"$WORK/dpkg.log" 2>&1 || fail "upgrade: $(tail -n 3 "$WORK/dpkg.log")"
	expect "an upgrade leaves a changed configuration alone" '# mine' "$(tail -n 1 "$root/etc/grantexd/config.yaml")"
	chroot_has deb ! -e /etc/systemd/system/sockets.target.wants/grantexd.socket || fail "the upgrade enabled the socket again"
	ok "an upgrade leaves a disabled socket disabled"
	chroot "$root" dpkg -r grantexd >/dev/null 2>&1
	chroot_has deb -s /etc/grantexd/config.yaml -a -s /etc/grantexd/grant || fail "removal took configuration or grant"
	chroot "$root" dpkg -P grantexd >/dev/null 2>&1
	expect "only the grant is left after a purge" grant "$(ls "$root/etc/grantexd")"
	said=$(chroot "$root" find /etc/systemd /var/lib/systemd/deb-systemd-helper-enabled -name '*grantex*' 2>/dev/null || true)
	expect "a purge leaves no state of units" "" "$said"
}

check_rpm() {
	local root=$WORK/rpm said
	overlay $SUITE rpm
	mount -t proc proc "$root/proc"
	at_exit umount "$root/proc"
	# Its dependencies are debs here.
	rpm="rpm --root=$root --dbpath=/var/lib/rpm --nodeps --nosignature"
	$rpm -i "$PACKAGES/grantexd-1.0.0-1.$RPM_ARCH.rpm" 2>"$WORK/rpm.log" || fail "rpm -i: $(cat "$WORK/rpm.log")"
	expect "rpm: user and groups are made" 3 "$(grep -cE '^(grantexd|grantex-clients|grantex-ledger):' "$root/etc/group")"
	echo '# mine' >>"$root/etc/grantexd/config.yaml"
	(umask 027; echo grant >"$root/etc/grantexd/grant")
	$rpm -U "$PACKAGES/grantexd-1.1.0-1.$RPM_ARCH.rpm" 2>"$WORK/rpm.log" || fail "rpm -U: $(cat "$WORK/rpm.log")"
	expect "rpm: an upgrade leaves a changed configuration alone" '# mine' "$(tail -n 1 "$root/etc/grantexd/config.yaml")"
	chroot_has rpm -x /usr/bin/grantexd || fail "rpm: the upgrade took the program"
	$rpm -e grantexd 2>"$WORK/rpm.log" || fail "rpm -e: $(cat "$WORK/rpm.log")"
	expect "rpm: removal leaves the grant and the changed configuration" "config.yaml.rpmsave grant" "$(cd "$root/etc/grantexd" && echo *)"
	chroot_has rpm ! -e /usr/bin/grantexd -a ! -e /usr/lib/systemd/system/grantexd.service || fail "rpm: removal left files"
	said=$(find "$root/etc/systemd" -name '*grantex*')
	expect "rpm: removal leaves no links to units" "" "$said"
}

check_binaries() {
	local deb machine
	need readelf binutils
	for deb in "$PACKAGES"/grantexd_1.1.0-1_*.deb; do
		dpkg-deb --fsys-tarfile "$deb" | tar -C "$WORK" -xf - ./usr/bin/grantexd
		machine=$(readelf -h "$WORK/usr/bin/grantexd" | sed -n 's/ *Machine: *//p')
		refused "the program in $(basename "$deb") ($machine) needs no loader" sh -c "readelf -l '$WORK/usr/bin/grantexd' | grep INTERP"
		refused "and names no path of the machine that built it" grep -aqF -e "$TOP" -e "$(go env GOMODCACHE)" "$WORK/usr/bin/grantexd"
	done
}

command -v go >/dev/null || skip "Go is missing"
command -v nfpm >/dev/null || skip "nfpm is missing"
build_packages
check_contents
check_binaries
check_lintian
check_deb
check_rpm

# shellcheck shell=bash
# What the deployment tests share: saying how it went, cleaning up, root file
# systems, and a booted systemd. A test sources it, having set -euo pipefail.

# The checkout.
# shellcheck disable=SC2034 # for those who source it
TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
# Root file systems are kept here from run to run.
ROOTS=${GRANTEXD_TEST_ROOTS:-/var/tmp/grantexd-test-roots}
# This run's own directory, removed at the end.
WORK=$(mktemp -d /var/tmp/grantexd-test.XXXXXX)

PASSED=0
CLEANUPS=()

say() { printf '%s\n' "$*"; }
ok() { PASSED=$((PASSED + 1)); say "  ok: $*"; }
fail() { say "FAIL: $*" >&2; exit 1; }
# What can't run here ends with 77, the exit code of a skipped test in automake.
skip() { say "SKIP: $*"; exit 77; }

# at_exit COMMAND... runs it at the end, last one first, whatever happened.
at_exit() { CLEANUPS+=("$(printf '%q ' "$@")"); }

# left_behind names mounts and cgroups of this run that still exist.
left_behind() {
	awk -v work="$WORK" 'index($2, work) == 1 {print "mount " $2}' /proc/mounts
	find /sys/fs/cgroup -maxdepth 2 -type d -name "grantexd-*-$$" 2>/dev/null
}

clean_up() {
	local status=$? i
	set +e
	trap '' INT TERM
	if [ "$status" -ne 0 ] && [ "$status" -ne 77 ] && declare -F show_evidence >/dev/null; then show_evidence >&2; fi
	for ((i = ${#CLEANUPS[@]} - 1; i >= 0; i--)); do eval "${CLEANUPS[$i]}"; done
	cd / || exit 1
	if left_behind | grep . >&2; then
		say "FAIL: the above was left behind" >&2
		status=1
	else
		rm -rf --one-file-system "$WORK"
	fi
	[ "$status" -eq 0 ] && say "$(basename "$0"): $PASSED passed, 0 failed"
	exit "$status"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# need COMMAND [PACKAGE] installs the Debian package of a command that is missing.
need() {
	command -v "$1" >/dev/null && return
	if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
		skip "$1 is missing and can't be installed here"
	fi
	if [ -z "${APT_UPDATED:-}" ]; then
		apt-get -qq update >/dev/null 2>&1 || skip "$1 is missing and no package list can be had"
		APT_UPDATED=1
	fi
	DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "${2:-$1}" >"$WORK/apt.log" 2>&1 ||
		skip "$1 is missing and could not be installed: $(tail -n 1 "$WORK/apt.log")"
}

# eventually SECONDS COMMAND... repeats the command until it succeeds.
eventually() {
	local until=$((SECONDS + $1)); shift
	until "$@"; do
		[ $SECONDS -lt $until ] || return 1
		sleep 0.1
	done
}

# expect WHAT WANTED GOT
expect() {
	[ "$2" = "$3" ] || fail "$1: wanted '$2', got '$3'"
	ok "$1"
}

# refused WHAT COMMAND... passes if the command fails.
refused() {
	local what=$1; shift
	if "$@" >/dev/null 2>&1; then fail "$what: was allowed"; fi
	ok "$what"
}

# end_process PID [SIGNAL] ends a process that this test started, and waits.
end_process() {
	kill "-${2:-TERM}" "$1" 2>/dev/null || return 0
	for _ in $(seq 100); do kill -0 "$1" 2>/dev/null || return 0; sleep 0.1; done
	kill -KILL "$1" 2>/dev/null
}

# require_root_filesystem SUITE makes a root file system, unless it is there, and
# sets ROOT to it.
require_root_filesystem() {
	local suite=$1 packages=systemd,systemd-sysv,libpam-systemd,dbus,curl,procps,util-linux
	# Another list is another root.
	ROOT=$ROOTS/$suite-$(cksum <<<"$packages" | cut -d' ' -f1)
	[ "$(id -u)" = 0 ] || skip "root file systems can only be made as root"
	mkdir -p "$ROOTS"
	# One at a time, also of two test runs.
	exec 9>"$ROOTS/.lock"
	flock 9
	if [ ! -d "$ROOT" ]; then
		need mmdebstrap
		rm -rf "$ROOT.new"
		mmdebstrap --quiet --mode=root --variant=minbase --include="$packages" "$suite" "$ROOT.new" >"$WORK/mmdebstrap.log" 2>&1 ||
			skip "no root file system of $suite can be made: $(tail -n 1 "$WORK/mmdebstrap.log")"
		mv "$ROOT.new" "$ROOT"
	fi
	exec 9>&-
}

# overlay SUITE NAME gives $WORK/NAME: the suite's root with changes of its own.
overlay() {
	local suite=$1 name=$2
	require_root_filesystem "$suite"
	mkdir -p "$WORK/$name" "$WORK/$name.upper" "$WORK/$name.work"
	mount -t overlay overlay -o "lowerdir=$ROOT,upperdir=$WORK/$name.upper,workdir=$WORK/$name.work" "$WORK/$name" ||
		skip "no overlay file systems here"
	at_exit umount "$WORK/$name"
}

# boot NAME starts systemd in $WORK/NAME. Then `inside COMMAND...` runs in it.
boot() {
	local name=$1 group nspawn
	need systemd-nspawn systemd-container
	MACHINE="grantexd-$name-$$"
	BOOT_GROUPS=()
	for group in /sys/fs/cgroup/unified /sys/fs/cgroup/systemd /sys/fs/cgroup; do
		[ -e "$group/cgroup.procs" ] || continue
		mkdir "$group/$MACHINE" 2>/dev/null || skip "no cgroup can be made in $group"
		BOOT_GROUPS+=("$group/$MACHINE")
		at_exit remove_cgroups "$group/$MACHINE"
	done
	[ ${#BOOT_GROUPS[@]} -gt 0 ] || skip "no cgroups here"
	(
		for group in "${BOOT_GROUPS[@]}"; do echo "$BASHPID" >"$group/cgroup.procs"; done
		SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1 exec systemd-nspawn -q -D "$WORK/$name" -M "$MACHINE" --boot \
			--register=no --keep-unit --private-network --console=read-only --link-journal=no \
			--kill-signal=SIGRTMIN+3 </dev/null >"$WORK/$name.console" 2>&1
	) &
	nspawn=$!
	at_exit end_process "$nspawn" KILL
	eventually 30 leader_of "$nspawn" || skip "systemd-nspawn can't boot here: $(tail -n 2 "$WORK/$name.console")"
	at_exit end_process "$LEADER" RTMIN+3
	eventually 60 booted || fail "systemd did not come up: $(tail -n 5 "$WORK/$name.console")"
	inside ip link set lo up 2>/dev/null || true
	say "  $(inside systemctl --version | head -n 1) has booted"
}

leader_of() { LEADER=$(awk '{print $1}' "/proc/$1/task/$1/children" 2>/dev/null) && [ -n "$LEADER" ]; }

booted() {
	case "$(inside systemctl is-system-running 2>/dev/null)" in running | degraded) return 0 ;; esac
	return 1
}

# inside COMMAND... runs as root in the booted system.
inside() {
	nsenter -t "$LEADER" -a env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 "$@"
}

# inside_as USER COMMAND... runs as that user, with all its groups.
inside_as() {
	local user=$1; shift
	inside setpriv --reuid "$user" --regid "$(inside id -g "$user")" --init-groups env -i PATH=/usr/bin:/bin "$@"
}

# unit_property UNIT PROPERTY
unit_property() { inside systemctl show -P "$2" "$1"; }

# halt ends what boot started, before the end of the test.
halt() { end_process "$LEADER" RTMIN+3; }

# remove_cgroups DIR removes it with all below; its processes are gone by then.
remove_cgroups() {
	for _ in $(seq 50); do
		find "$1" -depth -type d -exec rmdir {} + 2>/dev/null
		[ -d "$1" ] || return 0
		sleep 0.1
	done
	say "WARNING: cgroup $1 could not be removed" >&2
}

#!/usr/bin/env bash
# The service on a booted system: installed from the deb, started by its first
# connection, restarted, upgraded, killed, stopped, removed.
#
#   packaging/test/systemd.sh [SUITE...]     by default bookworm and trixie
#
# PACKAGES may name a directory with debs of versions 1.0.0 and 1.1.0.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/vault.sh"

SOCKET=/run/grantexd/grantexd.sock
# shellcheck disable=SC2034 # vault.sh uses it
VAULT_CURL='inside curl'

# answer USER [SERVICE [SOCKET]] prints the credential, or nothing.
answer() {
	inside_as "$1" curl -s --fail --max-time 20 --unix-socket "${3:-$SOCKET}" -H 'Accept: text/plain' \
		"http://localhost/v1/credentials/${2:-github}" || true
}

# code USER PATH [OPTION...] prints the status, 000 if nobody answers.
code() {
	local user=$1 path=$2; shift 2
	inside_as "$user" curl -s -o /dev/null -w '%{http_code}' --max-time 20 --unix-socket "$SOCKET" "$@" "http://localhost$path" || true
}

is() { [ "$2" = "$("${@:3}")" ] || { [ "$1" = not ] && [ "$2" != "$("${@:3}")" ]; }; }
answers() { [ "$(answer "$1" github "${3:-$SOCKET}")" = "$CANARY-$2" ]; }
has_code() { [ "$(code "${@:2}")" = "$1" ]; }
logged() { inside journalctl -q -b -u grantexd.service -o cat | grep -- "$1" >/dev/null; }

# put_grant FILE GROUP replaces a grant as a deployment would, at once.
put_grant() {
	# shellcheck disable=SC2016 # for the other shell
	inside sh -c 'umask 077; cat >"$1.new"; chgrp "$2" "$1.new"; chmod 0640 "$1.new"; mv "$1.new" "$1"' sh "$1" "$2"
}

show_evidence() {
	[ -n "${LEADER:-}" ] || return 0
	say "--- the journal"
	inside journalctl -q -b --no-pager -o short-precise -u 'grantexd*' -u vault 2>/dev/null | grep -v 'credential released' | tail -n 60
	inside systemctl --no-pager --lines=0 status 'grantexd*' 2>&1 | tail -n 40
}

build_packages() {
	[ -n "${PACKAGES:-}" ] && return
	PACKAGES=$WORK/packages
	for version in 1.0.0 1.1.0; do
		VERSION=$version ARCHITECTURES=$(go env GOARCH) "$TOP/packaging/build-packages.sh" "$PACKAGES" >"$WORK/build.log" 2>&1 ||
			fail "the packages can't be built: $(tail -n 5 "$WORK/build.log")"
	done
}

install_and_boot() {
	overlay "$1" "$1"
	cp "$PACKAGES"/grantexd_1.[01].0-1_"$(dpkg --print-architecture)".deb "$WORK/$1/root/"
	boot "$1"
	inside sh -c 'dpkg -i /root/grantexd_1.0.0-*.deb' >"$WORK/dpkg.log" 2>&1 || fail "dpkg -i: $(tail -n 3 "$WORK/dpkg.log")"
	# The vault, and limits that bite while the test can wait.
	inside sed -i -e "s|^  #url: .*|  url: http://$VAULT_LISTEN|" -e 's|^  #prefetch: .*|  exchange-spacing: 1s|' /etc/grantexd/config.yaml
	inside mkdir -p /etc/systemd/system/grantexd.service.d
	inside sh -c 'printf "[Service]\nWatchdogSec=4s\n" >/etc/systemd/system/grantexd.service.d/test.conf; systemctl daemon-reload'
	inside systemd-run -q --unit=vault /usr/bin/grantexd devvault --listen "$VAULT_LISTEN" --admin "$VAULT_ADMIN"
	eventually 10 vault_admin GET /clock >/dev/null 2>&1 || fail "the vault does not answer"
	for principal in alpha beta gamma; do store "$principal" github "$principal"; done
	inside sh -c 'useradd -m alice; useradd -m bob; usermod -aG grantex-clients alice'
}

check_units() {
	expect "the socket is enabled" enabled "$(inside systemctl is-enabled grantexd.socket)"
	expect "the socket listens after the installation" active "$(inside systemctl is-active grantexd.socket)"
	expect "the service has not started" inactive "$(inside systemctl is-active grantexd.service || true)"
	expect "the socket is of the clients' group" "660 grantexd grantex-clients" "$(inside stat -c '%a %U %G' $SOCKET)"
	expect "the ledger's directory is shared" "2770 root grantex-ledger" "$(inside stat -c '%a %U %G' /var/lib/grantex-ledger)"
}

check_first_connection() {
	mint alpha | put_grant /etc/grantexd/grant grantexd
	expect "a member of the group gets the credential" "$CANARY-alpha" "$(answer alice)"
	expect "the first connection started the service" active "$(inside systemctl is-active grantexd.service)"
	expect "so does the command" "$CANARY-alpha" "$(inside_as alice /usr/bin/grantexd get github)"
	expect "one outside the group can't connect" 000 "$(code bob /v1/credentials/github)"
	refused "the clients can't read the grant" inside_as alice cat /etc/grantexd/grant
	eventually 5 logged "uid=$(inside id -u alice) .*service=github" || fail "the audit does not name alice's uid"
	ok "the audit names the caller's uid"
	expect "the state is the daemon's alone" "700 grantexd" "$(inside stat -c '%a %U' /var/lib/grantexd)"
}

check_grant_changes() {
	mint beta | put_grant /etc/grantexd/grant grantexd
	eventually 3 answers alice beta || fail "the rotated grant is not used"
	ok "a rotated grant is used"
	vault_admin DELETE /grants/grnt_beta >/dev/null
	eventually 5 has_code 401 alice /v1/credentials/github -H 'Cache-Control: no-cache' || fail "a revoked grant still serves"
	expect "a revoked grant serves nobody" 401 "$(code alice /v1/credentials/github)"
	mint gamma | put_grant /etc/grantexd/grant grantexd
	eventually 3 answers alice gamma || fail "a new grant does not end the refusal"
	ok "a new grant is used after a revoked one"
}

check_deaths() {
	local before pid
	before=$(exchanges)
	inside systemctl restart grantexd.service
	expect "after a restart" "$CANARY-gamma" "$(answer alice)"
	inside systemctl kill -s KILL grantexd.service
	eventually 20 answers alice gamma || fail "no answer after SIGKILL"
	ok "after SIGKILL"
	pid=$(unit_property grantexd.service MainPID)
	inside kill -STOP "$pid"
	eventually 20 is not "$pid" unit_property grantexd.service MainPID || fail "the watchdog does not bite"
	eventually 20 answers alice gamma || fail "no answer after the watchdog"
	ok "the watchdog restarts a stopped process"
	expect "none of that cost an exchange" "$before" "$(exchanges)"
}

check_reload() {
	local pid
	pid=$(unit_property grantexd.service MainPID)
	inside sh -c 'cp /etc/grantexd/config.yaml /root/; printf "access:\n  - users: [bob]\n    services: [github]\n" >>/etc/grantexd/config.yaml'
	inside systemctl reload grantexd.service
	eventually 5 has_code 403 alice /v1/credentials/github || fail "the reload did not bring the rule"
	ok "a reload brings new rules"
	inside sh -c 'echo "no-such-group: 1" >>/etc/grantexd/config.yaml'
	inside systemctl reload grantexd.service
	eventually 5 logged "nothing was changed" || fail "nothing is said of the bad configuration"
	expect "a bad configuration changes nothing" 403 "$(code alice /v1/credentials/github)"
	inside cp /root/config.yaml /etc/grantexd/config.yaml
	inside systemctl reload grantexd.service
	eventually 5 answers alice gamma || fail "the old rules did not come back"
	expect "all by the same process" "$pid" "$(unit_property grantexd.service MainPID)"
}

# start_load makes alice ask all the time, without a second try.
start_load() {
	inside sh -c 'rm -rf /tmp/load; mkdir -m 1777 /tmp/load; cat >/usr/local/bin/load' <<-'SCRIPT'
		#!/bin/sh
		good=0 bad=0
		while [ ! -e /tmp/load/stop ]; do
			code=$(curl -s -o /dev/null -w '%{http_code}' --max-time 20 --unix-socket "$1" http://localhost/v1/credentials/github)
			if [ "$code" = 200 ]; then good=$((good + 1)); else bad=$((bad + 1)); echo "$code" >>/tmp/load/codes; fi
			echo "$good $bad" >"/tmp/load/count.$2"
		done
	SCRIPT
	LOAD=()
	for n in 1 2; do
		inside_as alice /bin/sh /usr/local/bin/load $SOCKET $n &
		LOAD+=($!)
		at_exit end_process $! KILL
	done
}

asked() { inside sh -c 'cat /tmp/load/count.* 2>/dev/null' | awk '{n += $1 + $2} END {print n + 0}'; }
failed() { inside sh -c 'cat /tmp/load/count.* 2>/dev/null' | awk '{n += $2} END {print n + 0}'; }
asked_at_least() { [ "$(asked)" -ge "$1" ]; }

stop_load() {
	inside touch /tmp/load/stop
	wait "${LOAD[@]}" || true
}

check_load() {
	local before i
	before=$(exchanges)
	start_load
	for i in $(seq 10); do
		eventually 60 asked_at_least $((i * 50)) || fail "the load does not get on"
		inside systemctl restart grantexd.service
	done
	eventually 60 asked_at_least 550
	stop_load
	expect "requests that failed, of $(asked) through 10 restarts" 0 "$(failed)"
	expect "10 restarts cost no exchange" "$before" "$(exchanges)"
}

check_upgrade() {
	local before version
	before=$(exchanges)
	start_load
	eventually 60 asked_at_least 20
	inside sh -c 'dpkg -i /root/grantexd_1.1.0-*.deb' >"$WORK/dpkg.log" 2>&1 </dev/null || fail "upgrade: $(tail -n 3 "$WORK/dpkg.log")"
	eventually 60 asked_at_least $(($(asked) + 50))
	stop_load
	expect "requests that failed, of $(asked) through the upgrade" 0 "$(failed)"
	expect "the upgrade cost no exchange" "$before" "$(exchanges)"
	version=$(inside_as alice curl -s --unix-socket $SOCKET http://localhost/v1/status | sed 's/.*"version":"\([^"]*\)".*/\1/')
	expect "the new version runs" 1.1.0 "$version"
	inside grep -q "url: http://$VAULT_LISTEN" /etc/grantexd/config.yaml || fail "the upgrade touched the configuration"
	inside test -s /etc/grantexd/grant || fail "the upgrade touched the grant"
	ok "configuration and grant are as they were"
}

check_withdrawal() {
	inside mv /etc/grantexd/grant /root/grant
	eventually 5 has_code 503 alice /v1/credentials/github || fail "a removed grant is still served"
	ok "removing the grant stops credentials"
	inside systemctl kill -s KILL grantexd.service
	eventually 20 has_code 503 alice /v1/credentials/github || fail "what was withdrawn came back after SIGKILL"
	ok "SIGKILL brings nothing back"
	inside sh -c 'cat /root/grant' | put_grant /etc/grantexd/grant grantexd
	eventually 5 answers alice gamma || fail "the grant is not used again"
	ok "the grant is used when it is back"
}

check_instances() {
	local i user
	for i in one two; do
		inside useradd -m "user$i"
		sed "s/agent/$i/g; s/^#m AGENT/m user$i/" "$TOP/packaging/instance.sysusers.conf" |
			inside sh -c "mkdir -p /etc/sysusers.d; cat >/etc/sysusers.d/grantexd-$i.conf"
		inside systemd-sysusers 2>/dev/null
		inside install -d -m 0750 -o root -g "grantexd-$i" "/etc/grantexd/$i"
		store "$i" github "$i"
		mint "$i" | put_grant "/etc/grantexd/$i/grant" "grantexd-$i"
		inside systemctl enable -q --now "grantexd@$i.socket"
	done
	for i in one two; do
		expect "instance $i answers its user" "$CANARY-$i" "$(answer "user$i" github "/run/grantexd-$i/grantexd.sock")"
	done
	expect "instance one refuses the user of two" "" "$(answer usertwo github /run/grantexd-one/grantexd.sock)"
	expect "instance one refuses the clients of the other service" "" "$(answer alice github /run/grantexd-one/grantexd.sock)"
	for user in grantexd-two usertwo grantexd; do
		refused "$user can't read the grant of one" inside_as "$user" cat /etc/grantexd/one/grant
	done
	expect "they share a ledger" "660 grantex-ledger" "$(inside stat -c '%a %G' /var/lib/grantex-ledger/budget.ledger)"
	expect "nobody runs paced for want of the ledger" "" "$(inside journalctl -q -b -u 'grantexd*' -o cat | grep -i paced || true)"
	inside systemctl disable -q --now grantexd@one.socket grantexd@two.socket
	inside systemctl stop grantexd@one.service grantexd@two.service
}

check_user_units() {
	local id user_systemctl
	id=$(inside id -u bob)
	if ! inside systemctl start "user@$id.service" 2>/dev/null; then
		say "  SKIP: no user manager can be started in this root file system"
		return
	fi
	user_systemctl="env XDG_RUNTIME_DIR=/run/user/$id HOME=/home/bob systemctl --user"
	store bob github bob
	inside_as bob mkdir -p -m 0700 /home/bob/.config/grantexd
	mint bob | put_grant /home/bob/.config/grantexd/grant bob
	inside chown bob /home/bob/.config/grantexd/grant
	# shellcheck disable=SC2086 # it is several words
	inside_as bob $user_systemctl start grantexd.socket
	expect "a user's own service answers" "$CANARY-bob" "$(answer bob github "/run/user/$id/grantexd/grantexd.sock")"
	expect "and nobody else" "" "$(answer alice github "/run/user/$id/grantexd/grantexd.sock")"
	inside systemctl stop "user@$id.service"
}

check_secrets() {
	local grant
	grant=$(inside cat /etc/grantexd/grant | sed 's/.*"grantToken":"\([^"]*\)".*/\1/')
	[ ${#grant} -gt 100 ] || fail "the grant was not found, so neither would it be in the journal"
	if inside journalctl -q -b | grep -e "$CANARY" -e "${grant##*.}" -e "$grant" >/dev/null; then
		fail "the journal holds a credential or the grant"
	fi
	ok "the journal holds no secret"
	[ "$(busiest)" -le 20 ] || fail "the vault saw $(busiest) exchanges in a minute"
	ok "the vault never saw more than 20 exchanges in a minute ($(busiest))"
	expect "no core can be taken" 0 "$(inside sh -c "awk '/Max core/ {print \$5}' /proc/$(unit_property grantexd.service MainPID)/limits")"
}

check_removal() {
	inside dpkg -r grantexd >"$WORK/dpkg.log" 2>&1 || fail "dpkg -r: $(tail -n 3 "$WORK/dpkg.log")"
	expect "nothing runs" inactive "$(inside systemctl is-active grantexd.service || true)"
	inside test ! -e $SOCKET || fail "the socket is left"
	inside test -s /etc/grantexd/config.yaml -a -s /etc/grantexd/grant || fail "removal took configuration or grant"
	ok "removal leaves configuration and grant"
	inside dpkg -P grantexd >"$WORK/dpkg.log" 2>&1 || fail "dpkg -P: $(tail -n 3 "$WORK/dpkg.log")"
	inside test -s /etc/grantexd/grant || fail "purge took the grant"
	# What the administrator or this test made is not the package's.
	inside rm -rf /etc/systemd/system/grantexd.service.d /etc/grantexd /etc/sysusers.d
	expect "purge leaves nothing else" "" "$(inside find / -xdev \( -path /proc -o -path /sys -o -path /root -o -path '/home/*' -o -path '/tmp' \
		-o -path '/var/log' -o -path '/run/systemd/*' \) -prune -o \( -name '*grantex*' ! -path '/var/lib/dpkg/*' \) -print)"
}

check_suite() {
	say "$1"
	install_and_boot "$1"
	for check in units first_connection grant_changes deaths reload load upgrade withdrawal instances user_units secrets removal; do
		"check_$check"
	done
	halt
}

command -v go >/dev/null || skip "Go is missing"
command -v nfpm >/dev/null || skip "nfpm is missing"
build_packages
[ $# -gt 0 ] || set -- bookworm trixie
for suite in "$@"; do check_suite "$suite"; done

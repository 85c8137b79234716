#!/usr/bin/env bash
# The image, as a sidecar: daemon and app in two containers that share nothing but
# a volume with the socket. Everything runs without a network but loopback, and
# in a container store of its own.
#
# IMAGE may name an archive of build-image.sh for this architecture.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/vault.sh"

NAME=localhost/grantexd:test
# Where the socket is: a volume, or a directory.
SHARED=socket
DAEMON_UID=65532
APP_UID=10001
# What the image must stand: nothing to write to, nothing to gain.
HARDENED=(--read-only --read-only-tmpfs=false --cap-drop=all --security-opt=no-new-privileges)

pod() {
	# The timers of its health checks are systemd's, which need not run here.
	DISABLE_HC_SYSTEMD=true podman --root "$WORK/store" --runroot "$WORK/run" --runtime=runc --cgroup-manager=cgroupfs --events-backend=file \
		--storage-driver=overlay "$@"
}

set_up_podman() {
	[ "$(id -u)" = 0 ] || skip "containers are run as root here"
	need podman
	need runc
	need jq
	mkdir "$WORK/tmp"
	export CONTAINERS_CONF=$WORK/containers.conf
	cat >"$CONTAINERS_CONF" <<-'CONF'
		[containers]
		default_ulimits=["nofile=20000:20000","nproc=32768:32768"]
	CONF
	at_exit remove_store
	pod info >/dev/null 2>"$WORK/podman.log" || skip "podman does not run here: $(tail -n 1 "$WORK/podman.log")"
}

remove_store() {
	pod pod rm --all --force --time 2 >/dev/null 2>&1
	pod rm --all --force --volumes --time 2 >/dev/null 2>&1
	pod volume rm --all --force >/dev/null 2>&1
	pod rmi --all --force >/dev/null 2>&1
	awk -v work="$WORK/" 'index($2, work) == 1 {print $2}' /proc/mounts | sort -r | while read -r mount; do umount "$mount"; done
	# podman leaves them, empty.
	find /sys/fs/cgroup -path '*/libpod_parent*' -depth -type d -exec rmdir {} + 2>/dev/null
}

show_evidence() {
	local container
	for container in $(pod ps --all --format '{{.Names}}' 2>/dev/null); do
		say "--- $container"
		pod logs --tail 20 "$container" 2>&1
	done
}

load_image() {
	if [ -z "${IMAGE:-}" ]; then
		command -v go >/dev/null || skip "Go is missing"
		need buildah
		IMAGE=$(VERSION=1.0.0 "$TOP/packaging/build-image.sh" "$WORK/images" "$(go env GOARCH)" 2>"$WORK/build.log") ||
			fail "the image can't be built: $(tail -n 3 "$WORK/build.log")"
	fi
	pod load --quiet --input "$IMAGE" >"$WORK/load" || fail "the image can't be loaded"
	pod tag "$(sed 's/.*: //' "$WORK/load" | tail -n 1)" $NAME
}

check_image() {
	local root
	expect "the user is nobody's" "$DAEMON_UID:$DAEMON_UID" "$(pod image inspect $NAME --format '{{.Config.User}}')"
	expect "it has a health check" "CMD /usr/bin/grantexd" "$(pod image inspect $NAME | jq -r '.[0].Healthcheck.Test[0:2] | join(" ")')"
	for label in title description url source documentation vendor licenses version; do
		[ -n "$(pod image inspect $NAME | jq -r ".[0].Labels[\"org.opencontainers.image.$label\"] // empty")" ] || fail "label $label is missing"
	done
	ok "it has its labels"
	root=$(pod image mount $NAME)
	expect "it holds these files and no others" "etc/group etc/passwd etc/ssl/certs/ca-certificates.crt usr/bin/grantexd \
usr/share/doc/grantexd/LICENSE usr/share/doc/grantexd/third-party-licenses" "$(cd "$root" && find . -type f | cut -c3- | LC_ALL=C sort | paste -sd' ')"
	expect "the state is the daemon's" "700 $DAEMON_UID" "$(stat -c '%a %u' "$root/var/lib/grantexd")"
	expect "nothing else can be written by others" "" "$(find "$root" -perm /022 ! -type l)"
	pod image unmount $NAME >/dev/null
}

# put_grant PRINCIPAL swaps the directory as the kubelet does with a Secret.
put_grant() {
	local version=$WORK/secret/..$1
	mkdir -p "$version"
	mint "$1" >"$version/grant"
	chmod 0640 "$version/grant"
	chown -R "0:$DAEMON_UID" "$version"
	ln -sfn "..$1" "$WORK/secret/..data_tmp"
	mv -T "$WORK/secret/..data_tmp" "$WORK/secret/..data"
	ln -sfn ..data/grant "$WORK/secret/grant"
}

start_vault() {
	pod run --detach --name vault --network=none --read-only "$NAME" devvault --listen $VAULT_LISTEN --admin $VAULT_ADMIN >/dev/null
	# shellcheck disable=SC2034 # vault.sh uses it
	VAULT_CURL="nsenter -t $(pod inspect vault --format '{{.State.Pid}}') -n curl"
	eventually 10 vault_admin GET /clock >/dev/null 2>&1 || fail "the vault does not answer"
	for principal in alpha beta; do
		store $principal github $principal
		store $principal slack $principal-slack
	done
	mkdir "$WORK/secret"
	put_grant alpha
}

# start_daemon NAME [OPTION...] starts one and waits until it is ready.
start_daemon() {
	local name=$1; shift
	pod run --detach --name "$name" --network container:vault "${HARDENED[@]}" --volume "$WORK/secret:/run/grant:ro" \
		--env GRANTEXD_GRANT_FILE=/run/grant/grant --env "GRANTEXD_UPSTREAM=http://$VAULT_LISTEN" "$@" $NAME >/dev/null
	eventually 15 pod exec "$name" /usr/bin/grantexd wait --timeout 1s >/dev/null 2>&1 || fail "$name does not get ready"
}

# app GROUP ARGUMENT... runs the client in a container of another user.
app() {
	local group=$1; shift
	pod run --rm --network=none "${HARDENED[@]}" --user $APP_UID:$APP_UID --group-add "$group" --volume "$SHARED:/run/grantexd:ro" $NAME "$@"
}

app_gets() { [ "$(app $DAEMON_UID get github 2>/dev/null)" = "$CANARY-$1" ]; }

check_sidecar() {
	start_daemon daemon --volume socket:/run/grantexd:U --volume state:/var/lib/grantexd:U --env GRANTEXD_SOCKET_MODE=0660
	expect "another user of the socket's group gets the credential" "$CANARY-alpha" "$(app $DAEMON_UID get github)"
	refused "one outside the group does not" app 20000 get github
	pod healthcheck run daemon >/dev/null || fail "the health check fails"
	ok "it is healthy"
	put_grant beta
	eventually 5 app_gets beta || fail "the swapped Secret is not used"
	ok "a swapped Secret is used"
	expect "it is process 1" 1 "$(pod top daemon pid | tail -n 1 | tr -d ' ')"
}

check_stop() {
	local id code
	vault_admin POST /faults --json '{"kind":"latency","delay":"2s","service":"slack"}' >/dev/null
	id=$(vault_admin GET /faults | jq -r '.faults[0].id // .[0].id')
	app $DAEMON_UID get slack >"$WORK/late" 2>"$WORK/late.err" &
	local late=$!
	eventually 10 sh -c "[ -n \"\$(cat /proc/*/cmdline 2>/dev/null | tr '\\0' ' ' | grep -a 'get slack')\" ]"
	sleep 1
	pod stop --time 10 daemon >/dev/null
	wait "$late" || fail "a request under way was dropped: $(cat "$WORK/late.err")"
	expect "SIGTERM lets a request under way end" "$CANARY-beta-slack" "$(cat "$WORK/late")"
	code=$(pod inspect daemon --format '{{.State.ExitCode}}')
	expect "and the daemon ends by itself" 0 "$code"
	vault_admin DELETE "/faults/$id" >/dev/null
	pod rm daemon >/dev/null
}

check_any_user() {
	# Nothing to write to but a volume that everybody may write to.
	SHARED=$WORK/shared
	mkdir "$SHARED"
	chmod 0777 "$SHARED"
	chmod -R a+rX "$WORK/secret"
	find -L "$WORK/secret" -name grant -exec chmod 0644 {} +
	start_daemon anyone --user 31337:31337 --volume "$SHARED:/run/grantexd" --env GRANTEXD_SOCKET_MODE=0666
	eventually 15 app_gets beta || fail "no credential without a state directory"
	ok "any user, a read-only root and no state directory"
	pod logs anyone 2>&1 | grep -i 'paced\|spread out' >/dev/null || fail "it does not say that it is paced"
	ok "it says that it runs paced"
	pod exec anyone /usr/bin/grantexd status --json | grep version >/dev/null || fail "status does not answer"
	pod kill --signal KILL anyone >/dev/null
	pod start anyone >/dev/null
	eventually 15 app_gets beta || fail "a socket that was left behind is in the way"
	ok "a socket that was left behind is not in the way"
	pod rm --force --time 5 anyone >/dev/null
}

check_secrets() {
	local logs
	logs=$(for container in $(pod ps --all --format '{{.Names}}'); do pod logs "$container" 2>&1; done)
	if grep -q "$CANARY" <<<"$logs"; then fail "a credential is in the logs"; fi
	ok "no credential is in the logs"
}

# The manifest of the plain sidecar, with the vault as a third container, as far
# as kube play knows it: it has no fsGroup, so the modes have to do.
check_kube_play() {
	local mounted
	sed -e "s|localhost/grantexd:.*|$NAME|; s|localhost/agent:latest|$NAME|; s|value: \"0660\"|value: \"0666\"|; s|defaultMode: 0440|defaultMode: 0444|" \
		-e 's|^        - name: agent$|        - name: vault\n          image: '"$NAME"'\n          args: [devvault, --listen, "'$VAULT_LISTEN'", --admin, "'$VAULT_ADMIN'"]\n&\n          args: [wait, --timeout, 60s]|' \
		-e 's|^            - name: GRANTEXD_GRANT_FILE$|            - {name: GRANTEXD_UPSTREAM, value: "http://'$VAULT_LISTEN'"}\n&|' \
		-e '/medium: Memory/s/{.*}/{}/; s/emptyDir: {sizeLimit.*/emptyDir: {}/' "$TOP/packaging/kubernetes/sidecar.yaml" >"$WORK/pod.yaml"
	# As the API server keeps it; kube play knows no stringData.
	printf 'apiVersion: v1\nkind: Secret\nmetadata:\n  name: agent-grant\ndata:\n  grant: %s\n' "$(mint kube | base64 -w0)" >"$WORK/secret.yaml"
	{ cat "$WORK/secret.yaml"; echo ---; cat "$WORK/pod.yaml"; } >"$WORK/all.yaml"
	pod rm --force --time 2 vault >/dev/null
	# It hangs on what it does not know.
	pod kube play --network=none "$WORK/all.yaml" >"$WORK/kube.log" 2>&1 &
	eventually 60 ended $! || { end_process $! KILL; fail "kube play hangs: $(tail -n 5 "$WORK/kube.log")"; }
	wait $! || fail "kube play: $(tail -n 5 "$WORK/kube.log")"
	# The vault is another one and knows not the grant's key: the daemon is up
	# and says so, and the agent reaches it.
	eventually 20 agent_reaches_daemon || fail "the agent's container does not reach the daemon: $(pod logs "$(container_of agent)" 2>&1 | tail -n 2)"
	ok "kube play: the agent's container reaches the daemon"
	# podman 4.3 mounts a Secret as it is encoded.
	mounted=$(pod volume inspect agent-grant --format '{{.Mountpoint}}')/grant
	if ! grep grantToken "$mounted" >/dev/null; then
		base64 -d "$mounted" >"$mounted.new"
		mv "$mounted.new" "$mounted"
	fi
	eventually 5 daemon_has_grant kube || fail "kube play: the daemon does not read the Secret"
	ok "kube play: the daemon reads the Secret"
}

daemon_has_grant() {
	[ "$(pod exec "$(container_of grantexd)" /usr/bin/grantexd status --json 2>/dev/null | jq -r .grant.grantId)" = "grnt_$1" ]
}

ended() { ! kill -0 "$1" 2>/dev/null; }
container_of() { pod ps --all --format '{{.Names}}' | grep -- "-$1\$"; }
agent_reaches_daemon() { pod exec "$(container_of grantexd)" /usr/bin/grantexd status --json >/dev/null 2>&1; }

set_up_podman
load_image
check_image
start_vault
check_sidecar
check_stop
check_any_user
check_secrets
check_kube_play

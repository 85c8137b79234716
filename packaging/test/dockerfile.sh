#!/usr/bin/env bash
# The Dockerfile and build-image.sh must give the same image. The Dockerfile is
# built by buildah and without a registry: the golang image that it begins with is
# made of a root file system and this machine's Go.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

export VERSION=1.0.0 SOURCE_DATE_EPOCH=1750000000

store() { buildah --root "$WORK/store" --runroot "$WORK/run" --storage-driver overlay "$@" 2>>"$WORK/buildah.log"; }

remove_store() {
	store rm --all >/dev/null
	store rmi --all --force >/dev/null
	awk -v work="$WORK/" 'index($2, work) == 1 {print $2}' /proc/mounts | sort -r | while read -r mount; do umount "$mount"; done
}

show_evidence() { tail -n 20 "$WORK/buildah.log"; }

# make_golang_image stands in for the image of that name. Go itself and what it
# has downloaded and compiled are lent to it by the build.
make_golang_image() {
	local container root
	require_root_filesystem bookworm
	container=$(store from scratch) || skip "buildah does not run here: $(tail -n 1 "$WORK/buildah.log")"
	root=$(store mount "$container")
	cp -a "$ROOT/." "$root/"
	mkdir -p "$root/etc/ssl/certs" "$root/usr/local/go"
	cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
	store umount "$container" >/dev/null
	store config --env PATH=/usr/local/go/bin:/usr/bin:/bin --env GOPATH=/go --env GOCACHE=/cache --env GOTOOLCHAIN=local "$container"
	store commit --quiet --rm "$container" docker.io/library/golang:1.26 >/dev/null
}

# unpack ARCHIVE DIRECTORY lays out the one layer of an image.
unpack() {
	mkdir -p "$2" "$2.archive"
	tar -C "$2.archive" -xf "$1"
	tar -C "$2" -xf "$2.archive/$(jq -r '.[0].Layers[-1]' "$2.archive/manifest.json")"
	chmod 0755 "$2"
}

# describe DIRECTORY prints all that is in it.
describe() {
	(cd "$1" && find . -printf '%M %U %G %p\n' | LC_ALL=C sort -k4 && find . -type f -exec sha256sum {} + | LC_ALL=C sort -k2)
}

# settings ARCHIVE prints what a container would be started with.
settings() {
	local config
	config=$(tar -xOf "$1" manifest.json | jq -r '.[0].Config')
	tar -xOf "$1" "$config" | jq --sort-keys '.config | {User, Env, Entrypoint, Cmd, Healthcheck, Labels: (.Labels | del(.["io.buildah.version"], .["org.opencontainers.image.revision"]))}'
}

[ "$(id -u)" = 0 ] || skip "images are only built as root"
command -v go >/dev/null || skip "Go is missing"
need buildah
need jq
architecture=$(go env GOARCH)
(cd "$TOP" && GOFLAGS='' go mod download)
at_exit remove_store
make_golang_image
store build --quiet --pull-never --isolation chroot --format docker --file "$TOP/packaging/Dockerfile" \
	--ignorefile "$TOP/packaging/Dockerfile.dockerignore" --tag localhost/grantexd:dockerfile \
	--volume "$(go env GOROOT):/usr/local/go:ro" --volume "$(go env GOMODCACHE):/go/pkg/mod:ro" --volume "$(go env GOCACHE):/cache" \
	--build-arg VERSION="$VERSION" --build-arg SOURCE_DATE_EPOCH="$SOURCE_DATE_EPOCH" --build-arg TARGETARCH="$architecture" \
	"$TOP" >/dev/null || fail "the Dockerfile can't be built"
ok "the Dockerfile is built"
store push --quiet localhost/grantexd:dockerfile "docker-archive:$WORK/dockerfile.tar"
script=$("$TOP/packaging/build-image.sh" "$WORK/images" "$architecture" 2>>"$WORK/buildah.log")

unpack "$WORK/dockerfile.tar" "$WORK/by-dockerfile"
unpack "$script" "$WORK/by-script"
diff <(describe "$WORK/by-dockerfile") <(describe "$WORK/by-script") || fail "the images hold different files"
ok "both images hold the same files, with the same owners and modes"
diff <(settings "$WORK/dockerfile.tar") <(settings "$script") || fail "the images have different settings"
ok "both images have the same settings"

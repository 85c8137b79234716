#!/usr/bin/env bash
# Builds the container image without a daemon and without pulling anything.
#
#   packaging/build-image.sh [DIRECTORY [ARCHITECTURE...]]
#
# It leaves an archive for each architecture (amd64 and arm64) in the directory
# (dist/images), which docker load, podman load and skopeo copy take. VERSION and
# SOURCE_DATE_EPOCH come from the environment. It needs Go, buildah and jq.
#
# The layout is that of the Dockerfile, and so are settings and labels, which are
# taken from its last stage.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

out=$(mkdir -p "${1:-$TOP/dist/images}" && cd "${1:-$TOP/dist/images}" && pwd)
if [ $# -gt 1 ]; then shift; else set -- amd64 arm64; fi
work=$(mktemp -d)
built=()
forget() {
	[ ${#built[@]} -eq 0 ] || buildah rmi --force "${built[@]}" >/dev/null
	rm -rf "$work"
}
trap forget EXIT

# The files come from an archive, which keeps their owners, instead of from
# another stage.
sed -n '/^FROM scratch/,$p' "$TOP/packaging/Dockerfile" | sed 's|^COPY --from=build /rootfs/ /$|ADD rootfs.tar /|' >"$work/Dockerfile"
grep -q '^ADD rootfs.tar /$' "$work/Dockerfile"

# same_bytes ARCHIVE DIRECTORY makes the archive what it would be anywhere: what
# buildah tells of its working container is random.
same_bytes() {
	mkdir "$2" "$2/in" "$2/out"
	tar -C "$2/in" -xf "$1"
	local config layer files
	config=$(jq -r '.[0].Config' "$2/in/manifest.json")
	jq -c --sort-keys 'del(.container, .container_config, .config.Hostname, .config.Image)' "$2/in/$config" >"$2/config"
	config=$(sha256sum "$2/config" | cut -d' ' -f1).json
	mv "$2/config" "$2/out/$config"
	jq -r '.[0].Layers[]' "$2/in/manifest.json" | while read -r layer; do cp "$2/in/$layer" "$2/out/$layer"; done
	jq -c --arg config "$config" '.[0].Config = $config' "$2/in/manifest.json" >"$2/out/manifest.json"
	mapfile -t files < <(cd "$2/out" && LC_ALL=C ls)
	tar -C "$2/out" --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner --mode=0644 -cf "$1" -- "${files[@]}"
}

for architecture in "$@"; do
	"$TOP/packaging/build-rootfs.sh" "$work/$architecture/rootfs" "$architecture"
	tar -C "$work/$architecture/rootfs" --sort=name --numeric-owner -cf "$work/$architecture/rootfs.tar" .
	rm -r "$work/$architecture/rootfs"
	# A health check is a matter of Docker's format; in another it gets lost.
	id=$(buildah build --quiet --format docker --platform "linux/$architecture" --timestamp "$SOURCE_DATE_EPOCH" \
		--build-arg VERSION="$VERSION" --build-arg REVISION="$REVISION" --layers=false --identity-label=false \
		--file "$work/Dockerfile" "$work/$architecture")
	built+=("$id")
	archive=$out/grantexd-$VERSION-$architecture.tar
	rm -f "$archive"
	buildah push --quiet "$id" "docker-archive:$archive:localhost/grantexd:$VERSION"
	same_bytes "$archive" "$work/$architecture.archive"
	echo "$archive"
done

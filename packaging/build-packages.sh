#!/usr/bin/env bash
# Builds the deb, rpm and apk packages of both architectures.
#
#   packaging/build-packages.sh [DIRECTORY]     by default dist/packages
#
# It takes VERSION, SOURCE_DATE_EPOCH and ARCHITECTURES ("amd64 arm64") from the
# environment, and needs Go and nfpm.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

out=$(mkdir -p "${1:-$TOP/dist/packages}" && cd "${1:-$TOP/dist/packages}" && pwd)
STAGE=$(mktemp -d)
export STAGE ARCH
trap 'rm -rf "$STAGE"' EXIT

command -v nfpm >/dev/null || {
	echo "nfpm is missing: go install github.com/goreleaser/nfpm/v2/cmd/nfpm@v2.45.0" >&2
	exit 1
}

mkdir -p "$STAGE/man" "$STAGE/completion"
native man "$STAGE/man"
find "$STAGE/man" -name '*.1' -exec gzip -9n {} +
for shell in bash zsh fish; do native completion "$shell" >"$STAGE/completion/grantexd.$shell"; done
third_party_licenses "$STAGE/third-party-licenses"
gzip -9n "$STAGE/third-party-licenses"

# nfpm gives the scripts of an apk the times that their files have, which are
# those of the checkout: so it reads copies.
mkdir "$STAGE/source"
cp -r "$TOP/packaging" "$TOP/systemd" "$STAGE/source"
find "$STAGE/source" -exec touch --date="@$SOURCE_DATE_EPOCH" {} +
cd "$STAGE/source/packaging"
for ARCH in ${ARCHITECTURES:-amd64 arm64}; do
	mkdir -p "$STAGE/$ARCH"
	build_binary "$ARCH" "$STAGE/$ARCH/grantexd"
	for kind in deb rpm apk; do
		# It says what is wrong on standard output.
		said=$(nfpm package --config nfpm.yaml --packager "$kind" --target "$out") || { echo "$said" >&2; exit 1; }
	done
done
ls "$out"

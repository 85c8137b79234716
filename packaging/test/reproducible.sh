#!/usr/bin/env bash
# Two builds, from different directories and under different umasks and times of
# checkout, must be the same byte for byte: the binaries, the packages, the images.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

export VERSION=1.0.0 SOURCE_DATE_EPOCH=1750000000

# build DIRECTORY UMASK copies the source there and builds everything.
build() {
	mkdir -p "$1"
	(
		umask "$2"
		tar -C "$TOP" --exclude=./.git --exclude=./dist -cf - . | tar -C "$1" --no-same-permissions --touch -xf -
		"$1/packaging/build-packages.sh" "$1/out/packages"
		[ -z "$IMAGES" ] || "$1/packaging/build-image.sh" "$1/out/images"
	) >"$WORK/build.log" 2>&1 || fail "the build in $1: $(tail -n 5 "$WORK/build.log")"
}

command -v go >/dev/null || skip "Go is missing"
command -v nfpm >/dev/null || skip "nfpm is missing"
IMAGES=
if [ "$(id -u)" = 0 ]; then
	need buildah
	need jq
	IMAGES=yes
else
	say "SKIP: images are only built as root"
fi

build "$WORK/here" 022
build "$WORK/somewhere/else entirely" 077
while read -r file; do
	cmp "$WORK/here/out/$file" "$WORK/somewhere/else entirely/out/$file" || fail "$file differs"
	ok "$file"
done < <(cd "$WORK/here/out" && find . -type f | cut -c3- | LC_ALL=C sort)
[ "$PASSED" -ge 6 ] || fail "only $PASSED files were built"

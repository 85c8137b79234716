# shellcheck shell=bash
# What the build scripts share. They give the same bytes on every machine with
# the same Go, for the same commit, VERSION and SOURCE_DATE_EPOCH.

TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# The version without a v, from the newest tag if it is not given.
VERSION=${VERSION:-$(git -C "$TOP" describe --tags --match 'v*' 2>/dev/null | sed 's/^v//' || true)}
VERSION=${VERSION:-0.1.0}
# The time of all that is built: that of the commit.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git -C "$TOP" log -1 --format=%ct 2>/dev/null || true)}
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-0}
# The commit, for the image's label; empty outside a checkout.
REVISION=$(git -C "$TOP" rev-parse --verify --quiet HEAD 2>/dev/null || true)
export VERSION SOURCE_DATE_EPOCH REVISION

# Files get the modes that are written here, whatever the caller's umask.
umask 022

# build_binary ARCHITECTURE FILE. Static, so that it runs on every Linux and in an
# empty container; without paths of this machine.
build_binary() {
	(cd "$TOP" && CGO_ENABLED=0 GOOS=linux GOARCH=$1 GOFLAGS='' GOAMD64=v1 \
		go build -trimpath -buildvcs=false -ldflags "-s -w -buildid= -X main.version=$VERSION" -o "$2" ./cmd/grantexd)
}

# third_party_licenses FILE gathers the licences of everything that is linked in,
# which those licences ask of whoever passes the binary on.
third_party_licenses() {
	(
		cd "$TOP" || exit
		# $GOROOT is found through go itself, which a toolchain line may change.
		printf 'The Go standard library and runtime\n\n'
		cat "$(go env GOROOT)/LICENSE"
		GOOS=linux GOFLAGS='' go list -deps -f '{{with .Module}}{{if not .Main}}{{.Path}} {{.Version}} {{.Dir}}{{end}}{{end}}' ./cmd/grantexd |
			LC_ALL=C sort -u | while read -r path version dir; do
			found=
			for file in "$dir"/LICENSE* "$dir"/LICENCE* "$dir"/COPYING* "$dir"/NOTICE*; do
				[ -f "$file" ] || continue
				found=yes
				printf '\n%s\n%s %s (%s)\n\n' "$(printf '=%.0s' $(seq 72))" "$path" "$version" "$(basename "$file")"
				cat "$file"
			done
			[ -n "$found" ] || { echo "no licence found in $path" >&2; exit 1; }
		done
	) >"$1"
}

# native runs the program on this machine, to make what it makes of itself.
native() { (cd "$TOP" && GOFLAGS='' go run -buildvcs=false ./cmd/grantexd "$@"); }

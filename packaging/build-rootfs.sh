#!/usr/bin/env bash
# Lays out the root file system of the container image.
#
#   packaging/build-rootfs.sh DIRECTORY [ARCHITECTURE]
#
# Both the Dockerfile and build-image.sh take it from here, so their images hold
# the same. Run it as root, or within "buildah unshare": files get owners.
# The certificates are those of the machine that builds, or of the file
# CA_CERTIFICATES.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

root=$1
architecture=${2:-$(go env GOARCH)}
# A user of no name on any host; an orchestrator may choose any other.
user=65532

mkdir -p "$root"/{etc/grantexd,etc/ssl/certs,run/grantexd,usr/bin,usr/share/doc/grantexd,var/lib/grantexd}
build_binary "$architecture" "$root/usr/bin/grantexd"
install -m 0644 "${CA_CERTIFICATES:-/etc/ssl/certs/ca-certificates.crt}" "$root/etc/ssl/certs/ca-certificates.crt"
install -m 0644 "$TOP/LICENSE" "$root/usr/share/doc/grantexd/LICENSE"
third_party_licenses "$root/usr/share/doc/grantexd/third-party-licenses"
echo "grantexd:x:$user:$user:grantexd:/:/sbin/nologin" >"$root/etc/passwd"
echo "grantexd:x:$user:" >"$root/etc/group"

find "$root" -type d -exec chmod 0755 {} +
chmod 0755 "$root/usr/bin/grantexd"
chmod 0644 "$root/etc/passwd" "$root/etc/group" "$root/usr/share/doc/grantexd/third-party-licenses"
chmod 0700 "$root/var/lib/grantexd"
chown -R 0:0 "$root"
chown "$user:$user" "$root/run/grantexd" "$root/var/lib/grantexd"
find "$root" -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +

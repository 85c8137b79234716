#!/usr/bin/env bash
# compose.yaml and the Kubernetes manifests, as those who run them would read
# them: strictly, and under the restricted Pod Security Standard.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

command -v go >/dev/null || skip "Go is missing"
cd "$TOP/packaging/test/manifests"
GOFLAGS='' go mod download >"$WORK/download.log" 2>&1 || skip "the modules to check with can't be had: $(tail -n 1 "$WORK/download.log")"
# go test does not see that files outside of the module change.
GOFLAGS='' go test -count=1 ./... || fail "the manifests"
ok "compose.yaml and the Kubernetes manifests"

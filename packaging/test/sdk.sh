#!/usr/bin/env bash
# The official TypeScript SDK, unchanged but for its base URL, exchanges through
# the loopback address.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

need node nodejs
need npm
cd "$WORK"
npm init -y >/dev/null 2>&1
npm install --no-audit --no-fund @grantex/sdk >npm.log 2>&1 ||
	skip "the npm registry has no @grantex/sdk for us: $(grep -m 1 -o 'code E[0-9A-Z]*' npm.log || tail -n 1 npm.log)"

(cd "$TOP" && go build -o "$WORK/grantexd" ./cmd/grantexd)
port=$((20000 + RANDOM % 10000))
"$WORK/grantexd" devvault --listen 127.0.0.1:$port --admin 127.0.0.1:$((port + 1)) >vault.log 2>&1 &
at_exit end_process $!
eventually 10 curl -sf "http://127.0.0.1:$port/health" -o /dev/null || fail "no vault: $(cat vault.log)"
curl -sf "http://127.0.0.1:$((port + 1))/credentials" --json '{"principalId":"user_dev","service":"github","accessToken":"gho_sdk"}' -o /dev/null
umask 077
curl -sf "http://127.0.0.1:$((port + 1))/grants" --json '{"scopes":["*"]}' -o grant
"$WORK/grantexd" serve --upstream "http://127.0.0.1:$port" --grant-file "$WORK/grant" --socket "$WORK/s.sock" \
	--state-dir "$WORK/state" --listen-tcp 127.0.0.1:$((port + 2)) >daemon.log 2>&1 &
at_exit end_process $!
eventually 10 "$WORK/grantexd" wait --socket "$WORK/s.sock" || fail "no daemon: $(cat daemon.log)"

cat >exchange.mjs <<JS
import { readFileSync } from "node:fs";
import { Grantex } from "@grantex/sdk";
const grantToken = process.argv[2] ?? readFileSync("$WORK/s.sock.token", "utf8").trim();
const grantex = new Grantex({ apiKey: "unused", baseUrl: "http://127.0.0.1:$((port + 2))" });
console.log((await grantex.vault.exchange({ grantToken, service: "github" })).accessToken);
JS
expect "the SDK gets the credential" gho_sdk "$(node exchange.mjs)"
refused "the SDK without the local token" node exchange.mjs wrong

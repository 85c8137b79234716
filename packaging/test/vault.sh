# shellcheck shell=bash
# An embedded vault for deployment tests, spoken to through its admin API by
# $VAULT_CURL, which is a curl that reaches it. A test sources it after lib.sh.

# shellcheck disable=SC2034 # for those who source it
VAULT_LISTEN=127.0.0.1:8200
VAULT_ADMIN=127.0.0.1:8201
# Whatever is stored begins with it, and it must turn up in no log.
CANARY=canary-2f8c1d

vault_admin() {
	local method=$1 path=$2; shift 2
	$VAULT_CURL -sS --fail --max-time 10 -X "$method" "http://$VAULT_ADMIN$path" "$@"
}

# mint PRINCIPAL prints a grant file for that principal.
mint() { vault_admin POST /grants --json "{\"scopes\":[\"*\"],\"life\":\"2h\",\"principalId\":\"$1\",\"grantId\":\"grnt_$1\"}"; }

# store PRINCIPAL SERVICE TOKEN
store() {
	vault_admin POST /credentials --json "{\"principalId\":\"$1\",\"service\":\"$2\",\"accessToken\":\"$CANARY-$3\"}" >/dev/null
}

# exchanges prints how many the vault has seen.
exchanges() { vault_admin GET /exchanges | sed 's/.*"total":\([0-9]*\).*/\1/'; }

# busiest prints the most exchanges in any minute.
busiest() { vault_admin GET /exchanges | sed 's/.*"maxInWindow":\([0-9]*\).*/\1/'; }

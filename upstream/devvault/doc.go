// Package devvault is an embedded vault server for development and tests. It
// answers as the real one does, and misbehaves on request.
//
// It restates the vault's wire format instead of sharing types with the client
// in upstream: it must not share the client's mistakes.
//
// # The vault
//
// [Server.Handler] serves the exchange, the developer's four calls, the signing
// keys and the health check, with the checks in the vault's order, its messages,
// its headers and its limits. [Server.Mint] makes grant tokens for it. Nothing
// leaves memory unless [Options].DataFile names a file, which is encrypted.
//
// What it does not do as the real one: reason phrases are net/http's, and so is
// the spelling of header names; there is one developer; scopes, agents and
// audit have no calls of their own.
//
// # The admin API
//
// [Server.Admin] serves what no vault has: grants on request, a log of what was
// asked, and misbehaviour. It answers JSON, and errors as {"message": …}. With
// ADMIN=http://127.0.0.1:PORT, a grant is made, refreshed (another token of the
// same grant) and revoked, and grants are listed, by
//
//	curl $ADMIN/grants --json '{"scopes":["github:read"],"life":"1h","principalId":"user_dev"}'
//	curl -X POST $ADMIN/grants/GRANT/refresh
//	curl -X DELETE $ADMIN/grants/GRANT
//	curl $ADMIN/grants
//
// The answers to the first two can be used as a grant file. All members are
// optional, agentId, developerId and grantId too. A credential is stored, past
// every limit, with the members of the developer's own call:
//
//	curl $ADMIN/credentials --json '{"principalId":"user_dev","service":"github","accessToken":"made-up"}'
//
// The exchanges seen, with their times, grants, services and statuses, and the
// most of them in any window, are shown and forgotten by
//
//	curl $ADMIN/exchanges
//	curl -X DELETE $ADMIN/exchanges
//
// # Misbehaviour
//
// Each [FaultKind] is switched on by its own line. An answer has the fault's id:
//
//	curl $ADMIN/faults --json '{"kind":"latency","delay":"300ms"}'
//	curl $ADMIN/faults --json '{"kind":"hang","delay":"20s"}'            # or without end
//	curl $ADMIN/faults --json '{"kind":"hang","delay":"20s","countLate":true}'
//	curl $ADMIN/faults --json '{"kind":"status","status":500,"share":0.25}'
//	curl $ADMIN/faults --json '{"kind":"status","status":502,"body":"<h1>Bad Gateway</h1>"}'
//	curl $ADMIN/faults --json '{"kind":"unauthorized"}'                  # every token is refused
//	curl $ADMIN/faults --json '{"kind":"unauthorized","as":"api-key"}'   # or missing, or proxy
//	curl $ADMIN/faults --json '{"kind":"rate-limit","retryAfter":"40s"}'
//	curl $ADMIN/faults --json '{"kind":"malformed"}'                     # or with a body
//	curl $ADMIN/faults --json '{"kind":"oversize","size":4194304}'
//	curl $ADMIN/faults --json '{"kind":"truncate"}'
//	curl $ADMIN/faults --json '{"kind":"reset"}'
//	curl $ADMIN/faults --json '{"kind":"slow","delay":"10ms"}'           # each byte
//
// All of them take "times" (only the next N calls), "share" (that part of the
// calls, spread evenly), "service" (only its exchanges) and "on" (exchange, which
// is the default, developer, health or all). A call that a fault spoils counts
// against the rate limit all the same, and the rate limit's own 429 comes first.
// Faults are listed, one is removed, and all are:
//
//	curl $ADMIN/faults
//	curl -X DELETE $ADMIN/faults/1
//	curl -X DELETE $ADMIN/faults
//
// The vault's clock is put off, which its Date header tells, and what it takes
// for expired:
//
//	curl -X PUT $ADMIN/clock --json '{"offset":"-5m"}'
//
// And all is well again, but for the credentials and grants, which stay, with
//
//	curl -X POST $ADMIN/reset
//
// # Who may use it
//
// Whoever reaches the admin API can read every credential, so it listens on
// loopback addresses only ([CheckAdminAddress]), and refuses browsers and other
// machines itself. On a machine with several users all of them can reach it.
//
// # At rest
//
// The data file is a bbolt file whose records are sealed with AES-256-GCM. A
// change is on the disk before it is answered, and the process may be killed at
// any moment. Read, decrypted and counted at every start, a file that is damaged
// or was sealed with another key is refused, and stays as it is. What nobody
// can see in it is that all of it was replaced by an older copy.
package devvault

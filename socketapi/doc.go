// Package socketapi is the HTTP API on the daemon's socket: the handler, the
// server that runs it, and the sockets it listens on.
//
// It serves from a [Source] and knows nothing of the vault. Who may connect, who
// is calling, what they may read and what is written down of it are decided in
// plain types ([session], [connLimits], the packages peer, access and audit), so
// that a faster loop in front of net/http can pass the same gates.
package socketapi

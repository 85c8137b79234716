// Package audit records who got which credential, and who was refused one.
//
// A release is recorded before the credential leaves: a line for the first one
// of each connection, service and fingerprint, with all that is known of the
// caller, then a count a minute while it goes on. A line names the exchange that
// the credential came from; when that changes, counting starts again. Denials
// are summed by caller: a line at once, then a count a minute, and for no more
// callers and services than a fixed number, so that whoever is denied can fill
// neither the disk nor the memory.
//
// Lines go to the daemon's log, or as JSON to a file of their own:
//
//	{"time":"2026-03-01T10:00:00.000Z","event":"credential released","connection":7,
//	 "principal":"uid:1000","uid":1000,"gid":1000,"pid":812,"unit":"agent.service",
//	 "unknown":{"executable":"reading another user's executable needs CAP_SYS_PTRACE"},
//	 "service":"github","fingerprint":"5f1d…","exchange":"x41","hit":true}
//	{…,"event":"credential released again",…,"count":312,"hits":312}
//	{…,"event":"credential denied","principal":"uid:1001",…,"service":"slack"}
//	{…,"event":"credential denied again","principal":"uid:1001","count":95,"services":["slack"]}
//
// A release counts once: the releases of a connection are its lines "credential
// released" plus the counts of "credential released again". No line ever holds a
// token: the package is never handed one.
//
// It is a package of its own, free of net/http, because every way on which a
// credential can leave must pass it.
package audit

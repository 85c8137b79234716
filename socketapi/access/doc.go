// Package access decides which caller may read which service's credential. It
// is a pure function of rules, caller and service: no clock, no system call, no
// state, and no allocation where it allows.
//
// A rule describes callers and lists services, in the config:
//
//	access:
//	  - name: ci                      # for logs and explain; else "rule 1"
//	    users: [ci, "1234"]           # names or numbers; any of them suffices
//	    services: [github, npm-*]     # * is any characters, ? is one
//	  - name: backup job
//	    users: [root]
//	    units: [backup@*.service]     # and: both users and units must hold
//	    services: [s3]
//	  - name: my own timer
//	    users: [alice]
//	    units: [user@1000.service/sync.service]
//	    services: [slack]
//	  - name: SDKs on the loopback address
//	    principals: [tcp]
//	    services: [github]
//	  - name: everybody may read the mirror's
//	    anyone: true
//	    services: [mirror]
//
// How they are read:
//
//   - Rules only allow. What no rule allows is denied, whoever asks: root is no
//     exception, and there is no order to get wrong.
//   - Any one rule suffices. Of one rule, everything that it names must hold;
//     of one list, any entry. A list that is absent or empty asks for nothing.
//   - A rule must name some caller, and some service. For everybody that the
//     socket's mode lets in write "anyone: true", for all services write "*".
//     A forgotten line is an error, not a wide-open door.
//   - A fact about the caller that is not known matches nothing. For groups both
//     the group and the supplementary groups must be known. The overflow id
//     65534 (nobody, nogroup) is never known, so a rule may not name it.
//   - Callers on the loopback address are the principal "tcp", and no rule but
//     one that names it lets them in.
//   - Users, groups, units and services are compared exactly, in their case. In
//     globs of units, * and ? stop at a slash: "*.service" is a unit of the
//     system, and "user@1000.service/*" any of that user's own manager, whose
//     names prove nothing beyond the user.
//
// Without rules (a nil [Rules]) whoever reaches the socket, or holds the local
// token of the loopback address, which lies beside it under the same mode, may
// read everything. An empty list of rules allows nobody anything.
package access

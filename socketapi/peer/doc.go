// Package peer finds out who is calling on a Unix socket, once for each
// connection.
//
// The kernel vouches for the user, the group and the supplementary groups of
// the process that connected (SO_PEERCRED and SO_PEERGROUPS, unix(7)): those
// facts can't be forged, and stay true when the process exits or hands its
// connection on. What else is worth knowing is read from /proc and is therefore
// only believed if it is certain that the process read there is the one that
// connected. Every fact is either known or unknown with a reason, and nothing
// treats an unknown fact as a match.
//
// It is a package of its own so that the access rules, the audit and whatever
// serves the socket take the same identity and none of them asks the kernel
// itself. It knows nothing of net/http.
package peer

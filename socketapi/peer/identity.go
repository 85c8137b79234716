package peer

import (
	"fmt"
	"log/slog"
	"strconv"
	"strings"
)

// Principals of callers that are no process on the socket.
const (
	// PrincipalTCP stands for whoever presented the local token on the
	// loopback address.
	PrincipalTCP = "tcp"
	// PrincipalInternal is the daemon itself, checking that it still answers.
	PrincipalInternal = "internal"
	// PrincipalUnknown is a caller whose uid the kernel would not tell.
	PrincipalUnknown = "unknown"
)

// Identity is what is known of the process at the other end of a connection, as
// it was when the connection was made. It is immutable and safe for concurrent
// use. The zero value is a caller of whom nothing is known.
type Identity struct {
	// UID is the effective user id, as seen from the daemon's user namespace.
	// An id that is not mapped there is unknown, not 65534.
	UID Fact[uint32]
	// GID is the effective group id; as UID.
	GID Fact[uint32]
	// Groups are the supplementary groups, without those that are not mapped
	// in the daemon's user namespace. GID need not be among them.
	Groups Fact[[]uint32]
	// PID is the process id that the caller had when it connected. The process
	// may be gone, and its id reused, by the time anybody looks.
	PID Fact[int32]
	// Executable is the path of the caller's program in its own mount
	// namespace, control characters escaped. It is for the audit only: a caller
	// chooses what it executes, so it is no ground to allow anything.
	Executable Fact[string]
	// Unit is the systemd unit that the caller runs in: "backup.service" for a
	// unit of the system, "user@1000.service/backup.service" for one of a
	// user's own manager, who may name units as he likes.
	Unit Fact[string]
	// Container is the id of the caller's outermost container.
	Container Fact[string]

	principal string
}

// Principal is the caller's name for accounts and logs: "uid:1000", or one of
// the Principal constants. It is computed once and costs nothing to read.
func (i *Identity) Principal() string {
	if i.principal == "" {
		return PrincipalUnknown
	}
	return i.principal
}

// TCP returns the identity of callers on the loopback address: of them nothing
// is known but that they hold the local token.
func TCP() *Identity {
	return without(PrincipalTCP, "a TCP connection has no peer credentials")
}

// Internal returns the identity of the daemon's own watchdog check.
func Internal() *Identity {
	return without(PrincipalInternal, "the caller is the daemon itself")
}

// without returns an identity of which nothing but the principal is known.
func without(principal, reason string) *Identity {
	return &Identity{
		principal:  principal,
		UID:        Unknown[uint32](reason),
		GID:        Unknown[uint32](reason),
		Groups:     Unknown[[]uint32](reason),
		PID:        Unknown[int32](reason),
		Executable: Unknown[string](reason),
		Unit:       Unknown[string](reason),
		Container:  Unknown[string](reason),
	}
}

// String describes the caller in one line with all that is known of it.
func (i *Identity) String() string {
	var b strings.Builder
	b.WriteString(i.Principal())
	for _, f := range i.fields() {
		if f.reason == "" {
			fmt.Fprintf(&b, " %s=%v", f.name, f.value)
		}
	}
	return b.String()
}

// LogValue names the caller with all that is known of it, for log/slog.
func (i *Identity) LogValue() slog.Value {
	attrs := []slog.Attr{slog.String("principal", i.Principal())}
	for _, f := range i.fields() {
		if f.reason == "" {
			attrs = append(attrs, slog.Any(f.name, f.value))
		}
	}
	return slog.GroupValue(attrs...)
}

// Unknowns returns the reason for each fact that is not known, by the fact's
// name as in LogValue. It is nil if all are known.
func (i *Identity) Unknowns() map[string]string {
	var m map[string]string
	for _, f := range i.fields() {
		if f.reason != "" {
			if m == nil {
				m = make(map[string]string)
			}
			m[f.name] = f.reason
		}
	}
	return m
}

type field struct {
	name   string
	value  any
	reason string // "" if known
}

func (i *Identity) fields() []field {
	return []field{
		fieldOf("uid", i.UID), fieldOf("gid", i.GID), fieldOf("groups", i.Groups),
		fieldOf("pid", i.PID), fieldOf("executable", i.Executable),
		fieldOf("unit", i.Unit), fieldOf("container", i.Container),
	}
}

func fieldOf[T any](name string, f Fact[T]) field {
	return field{name: name, value: f.value, reason: f.Reason()}
}

// uidPrincipal returns the principal of a user id.
func uidPrincipal(uid uint32) string { return "uid:" + strconv.FormatUint(uint64(uid), 10) }

package peer

import (
	"errors"
	"math"
	"os/user"
	"slices"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// Of returns who is at the other end of c, which is a connected Unix stream
// socket such as a *net.UnixConn. It never fails: what can't be found out is
// unknown, with the reason. Call it once, as soon as the connection is
// accepted: the sooner, the likelier the caller's process is still there.
func Of(c syscall.Conn) *Identity { return identify(linux{}, c) }

// UID returns the raw user id of the other end of c, for limits that must be
// cheap enough to apply to each connection before anything else is done with
// it. It may be the overflow id and is no ground to allow anything. ok is false
// if the kernel would not tell.
func UID(c syscall.Conn) (uid uint32, ok bool) {
	rc, err := c.SyscallConn()
	if err != nil {
		return 0, false
	}
	// Control and not File().Fd(), here and below: that one makes the shared
	// description blocking, and then no deadline ends a read.
	err = rc.Control(func(fd uintptr) {
		cred, err := linux{}.credentials(int(fd))
		uid, ok = cred.Uid, err == nil && cred.Uid != noID
	})
	if err != nil || !ok {
		return 0, false
	}
	return uid, true
}

// As returns the identity that a process with this uid and gid would have, for
// questions such as "would this user be allowed?". The supplementary groups are
// those that the host's user database gives the user; an id without an account
// has none.
func As(uid, gid uint32) *Identity { return as(linux{}, uid, gid, groupIDs) }

// noID is (uid_t)-1: what SO_PEERCRED gives for a socket without credentials.
const noID = math.MaxUint32

// maxGroups is NGROUPS_MAX of Linux: no process has more supplementary groups.
const maxGroups = 65536

// onSocket is what the kernel says of a connection's other end.
type onSocket struct {
	cred    unix.Ucred
	credErr error
	groups  Fact[[]uint32]
	// pidfd is -1 if there is none, for the reason pidfdErr.
	pidfd    int
	pidfdErr error
}

func identify(k kernel, c syscall.Conn) *Identity {
	rc, err := c.SyscallConn()
	if err != nil {
		return without(PrincipalUnknown, "the connection can't be asked: "+err.Error())
	}
	var s onSocket
	if err := rc.Control(func(fd uintptr) { s = askSocket(k, int(fd)) }); err != nil {
		return without(PrincipalUnknown, "the connection is closed")
	}
	if s.pidfd >= 0 {
		defer k.close(s.pidfd)
	}
	if s.credErr != nil {
		return without(PrincipalUnknown, "SO_PEERCRED: "+s.credErr.Error())
	}
	if s.cred.Uid == noID {
		return without(PrincipalUnknown, "the socket has no peer credentials")
	}
	id := &Identity{principal: uidPrincipal(s.cred.Uid), Groups: s.groups}
	id.UID, id.GID = mapped(k, s.cred.Uid, s.cred.Gid)
	if s.cred.Pid <= 0 {
		const reason = "the caller lives in another pid namespace"
		id.PID = Unknown[int32](reason)
		id.forgetProcess(reason)
		return id
	}
	id.PID = Known(s.cred.Pid)
	id.readProcess(k, s)
	return id
}

func askSocket(k kernel, fd int) onSocket {
	s := onSocket{pidfd: -1}
	if s.cred, s.credErr = k.credentials(fd); s.credErr != nil || s.cred.Uid == noID {
		return s
	}
	s.groups = peerGroups(k, fd)
	if s.cred.Pid > 0 {
		if s.pidfd, s.pidfdErr = k.pidfd(fd); s.pidfdErr != nil {
			s.pidfd = -1
		}
	}
	return s
}

// peerGroups asks with a buffer that is enough for nearly everybody, and again
// as long as the kernel says ERANGE.
func peerGroups(k kernel, fd int) Fact[[]uint32] {
	_, overflow := k.overflow()
	for size := 32; ; {
		buf := make([]uint32, size)
		n, err := k.groups(fd, buf)
		switch {
		case err == nil:
			return Known(slices.DeleteFunc(buf[:min(n, size)], func(gid uint32) bool {
				return unmapped(gid, overflow)
			}))
		case errors.Is(err, unix.ERANGE) && size < maxGroups:
			// Doubled at least, so that the loop ends whatever n says.
			size = min(max(n, 2*size), maxGroups)
		case errors.Is(err, unix.ENOPROTOOPT):
			return Unknown[[]uint32]("the kernel has no SO_PEERGROUPS (it came with Linux 4.13)")
		default:
			return Unknown[[]uint32]("SO_PEERGROUPS: " + err.Error())
		}
	}
}

// mapped turns ids that the daemon's user namespace does not know into unknown
// facts: every user it does not know looks like the overflow id, so that id
// tells no two of them apart.
func mapped(k kernel, uid, gid uint32) (Fact[uint32], Fact[uint32]) {
	overflowUID, overflowGID := k.overflow()
	u, g := Known(uid), Known(gid)
	if unmapped(uid, overflowUID) {
		u = Unknown[uint32]("the caller's user is not mapped in the daemon's user namespace (uid " + decimal(uid) + ")")
	}
	if unmapped(gid, overflowGID) {
		g = Unknown[uint32]("the caller's group is not mapped in the daemon's user namespace (gid " + decimal(gid) + ")")
	}
	return u, g
}

// Overflow is the id that stands for every user or group which is not mapped in
// a user namespace (user_namespaces(7)), unless the host was told to use
// another one.
const Overflow = 65534

func unmapped(id, overflow uint32) bool {
	return id == Overflow || id == overflow || id == noID
}

func decimal(id uint32) string { return strconv.FormatUint(uint64(id), 10) }

func as(k kernel, uid, gid uint32, lookup func(uid string) ([]string, error)) *Identity {
	id := without(uidPrincipal(uid), "only a real connection has it")
	id.UID, id.GID = mapped(k, uid, gid)
	names, err := lookup(decimal(uid))
	var none user.UnknownUserIdError
	if errors.As(err, &none) {
		id.Groups = Known[[]uint32](nil)
		return id
	}
	if err != nil {
		id.Groups = Unknown[[]uint32]("the user database can't be asked: " + err.Error())
		return id
	}
	_, overflow := k.overflow()
	groups := make([]uint32, 0, len(names))
	for _, s := range names {
		if g, err := strconv.ParseUint(s, 10, 32); err == nil && !unmapped(uint32(g), overflow) {
			groups = append(groups, uint32(g))
		}
	}
	id.Groups = Known(groups)
	return id
}

// groupIDs returns the numbers of a user's groups, in decimal.
func groupIDs(uid string) ([]string, error) {
	u, err := user.LookupId(uid)
	if err != nil {
		return nil, err
	}
	return u.GroupIds()
}

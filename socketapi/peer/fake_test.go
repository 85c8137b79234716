package peer

import (
	"errors"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// fakeKernel answers as it is told, and counts what was left open.
type fakeKernel struct {
	cred      unix.Ucred
	credErr   error
	gids      []uint32
	groupsErr error
	pidfdErr  error
	// pidNow is what fdinfo says after /proc was read.
	pidNow     int
	pidNowErr  error
	proc       *fakeProcess
	procErr    error
	selfPID    int
	uptime     time.Duration
	overflowID uint32

	open       int // descriptors and directories
	groupsAsks int
	read       bool // /proc/PID was read
}

func (k *fakeKernel) credentials(int) (unix.Ucred, error) { return k.cred, k.credErr }

func (k *fakeKernel) groups(_ int, buf []uint32) (int, error) {
	k.groupsAsks++
	if k.groupsErr != nil {
		return 0, k.groupsErr
	}
	if len(buf) < len(k.gids) {
		return len(k.gids), unix.ERANGE
	}
	return copy(buf, k.gids), nil
}

func (k *fakeKernel) pidfd(int) (int, error) {
	if k.pidfdErr != nil {
		return -1, k.pidfdErr
	}
	k.open++
	return 99, nil
}

func (k *fakeKernel) pidOf(int) (int, error) {
	if k.proc != nil && !k.read {
		return 0, errors.New("verified before /proc was read")
	}
	return k.pidNow, k.pidNowErr
}

func (k *fakeKernel) close(int) { k.open-- }

func (k *fakeKernel) process(int32) (process, error) {
	if k.procErr != nil {
		return nil, &fs.PathError{Op: "open", Path: "/proc/1234", Err: k.procErr}
	}
	k.open++
	return openFake{k.proc, k}, nil
}

func (k *fakeKernel) self() (int, error)         { return k.selfPID, nil }
func (k *fakeKernel) overflow() (uint32, uint32) { return k.overflowID, k.overflowID }
func (k *fakeKernel) boot() time.Duration        { return k.uptime }

// fakeProcess is a directory in /proc.
type fakeProcess struct {
	files map[string]string
	exe   string
	err   error // of reading exe
}

type openFake struct {
	*fakeProcess
	k *fakeKernel
}

func (p openFake) ReadFile(name string) ([]byte, error) {
	p.k.read = true
	s, ok := p.files[name]
	if !ok {
		return nil, &fs.PathError{Op: "open", Path: name, Err: unix.ESRCH}
	}
	return []byte(s), nil
}

func (p openFake) Readlink(string) (string, error) { return p.exe, p.err }

func (p openFake) Close() error {
	p.k.open--
	return nil
}

// fakeConn is a connection with descriptor 7.
type fakeConn struct{ err error }

func (c fakeConn) SyscallConn() (syscall.RawConn, error) { return c, nil }
func (c fakeConn) Read(func(uintptr) bool) error         { return c.err }
func (c fakeConn) Write(func(uintptr) bool) error        { return c.err }
func (c fakeConn) Control(f func(uintptr)) error {
	if c.err == nil {
		f(7)
	}
	return c.err
}

const status = "Name:\tcurl\nUid:\t0\t1000\t1000\t1000\nGid:\t0\t1001\t1001\t1001\n"

// statAt returns a /proc/PID/stat of a process with a hostile name.
func statAt(ticks string) string {
	return "1234 (a) b (c) S 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 " + ticks + " 0 0\n"
}

// newFake returns a kernel of today with a caller that is still there.
func newFake() *fakeKernel {
	return &fakeKernel{
		cred: unix.Ucred{Pid: 1234, Uid: 1000, Gid: 1001}, gids: []uint32{4, 27},
		pidNow: 1234, selfPID: os.Getpid(), uptime: time.Minute, overflowID: Overflow,
		proc: &fakeProcess{exe: "/usr/bin/curl", files: map[string]string{
			"cgroup": "0::/system.slice/backup.service\n", "status": status, "stat": statAt("5000"),
		}},
	}
}

func TestKernels(t *testing.T) {
	const known = ""
	old := func(k *fakeKernel) { k.pidfdErr = unix.ENOPROTOOPT }
	for _, c := range []struct {
		name   string
		change func(k *fakeKernel)
		want   string // part of the reason for what /proc says, or known
	}{
		{"today's", func(*fakeKernel) {}, known},
		{"today's, just started", func(k *fakeKernel) { k.proc.files["stat"] = statAt("6000") }, known},
		{"exited before the descriptor", func(k *fakeKernel) { k.pidfdErr = unix.ESRCH }, reasonExited},
		{"exited while it was read", func(k *fakeKernel) { k.pidNow = -1 }, reasonExited},
		{"exited, nothing to read", func(k *fakeKernel) { k.pidNow, k.procErr, k.proc = -1, unix.ENOENT, nil }, reasonExited},
		{"/proc of another namespace", func(k *fakeKernel) { k.pidNow = 17 }, reasonProc},
		{"/proc of an unrelated namespace", func(k *fakeKernel) { k.pidNow = 0 }, reasonProc},
		{"hidden by ProtectProc", func(k *fakeKernel) { k.procErr, k.proc = unix.ENOENT, nil }, reasonHidden},
		{"no fdinfo", func(k *fakeKernel) { k.pidNowErr = unix.EACCES }, "/proc/self/fdinfo: permission denied"},
		{"no descriptors left for a pidfd", func(k *fakeKernel) { k.pidfdErr = unix.EMFILE }, "SO_PEERPIDFD: too many open files"},
		{"no descriptors left for /proc", func(k *fakeKernel) { k.procErr, k.proc = unix.EMFILE, nil }, "/proc: too many open files"},
		{"filtered, as if for the lack of rights", func(k *fakeKernel) { k.pidfdErr = unix.EPERM }, "SO_PEERPIDFD: operation not permitted"},

		{"old, 10 s ago", func(k *fakeKernel) { old(k) }, known},
		{"old, a tick less", func(k *fakeKernel) { old(k); k.proc.files["stat"] = statAt("5001") }, "less than 10s"},
		{"old, starts in the future", func(k *fakeKernel) { old(k); k.proc.files["stat"] = statAt("9000") }, "less than 10s"},
		{"old, other user", func(k *fakeKernel) { old(k); k.cred.Uid = 1002 }, reasonOther},
		{"old, other group", func(k *fakeKernel) { old(k); k.cred.Gid = 1002 }, reasonOther},
		{"old, gone", func(k *fakeKernel) { old(k); k.procErr, k.proc = unix.ENOENT, nil }, reasonExited + ", or"},
		{"old, no descriptors left", func(k *fakeKernel) { old(k); k.procErr, k.proc = unix.EMFILE, nil }, "/proc: too many"},
		{"old, exits before stat", func(k *fakeKernel) { old(k); delete(k.proc.files, "stat") }, reasonExited},
		{"old, exits before status", func(k *fakeKernel) { old(k); delete(k.proc.files, "status") }, reasonExited},
		{"old, stat cut off", func(k *fakeKernel) { old(k); k.proc.files["stat"] = "1234 (curl" }, "/proc/PID/stat"},
		{"old, stat too short", func(k *fakeKernel) { old(k); k.proc.files["stat"] = "1 (curl) S 1" }, "/proc/PID/stat"},
		{"old, stat without a number", func(k *fakeKernel) { old(k); k.proc.files["stat"] = statAt("-5") }, "/proc/PID/stat"},
		{"old, stat beyond all time", func(k *fakeKernel) { old(k); k.proc.files["stat"] = statAt("9223372036854775807") }, "/proc/PID/stat"},
		{"old, status without ids", func(k *fakeKernel) { old(k); k.proc.files["status"] = "Uid:\t1000\n" }, reasonOther},
		{"old, status of something else", func(k *fakeKernel) { old(k); k.proc.files["status"] = "" }, reasonOther},
		{"old, /proc of another namespace", func(k *fakeKernel) { old(k); k.selfPID = 1 << 23 }, reasonProc},
	} {
		t.Run(c.name, func(t *testing.T) {
			k := newFake()
			c.change(k)
			id := identify(k, fakeConn{})
			require.Zero(t, k.open, "left open")
			require.Equal(t, Known(k.cred.Uid), id.UID)
			require.Equal(t, Known(k.cred.Gid), id.GID)
			require.Equal(t, Known([]uint32{4, 27}), id.Groups)
			require.Equal(t, Known(int32(1234)), id.PID)
			if c.want == known {
				require.Equal(t, Known("/usr/bin/curl"), id.Executable)
				require.Equal(t, Known("backup.service"), id.Unit)
				return
			}
			for _, f := range []Fact[string]{id.Executable, id.Unit, id.Container} {
				require.False(t, f.Known())
				require.Contains(t, f.Reason(), c.want)
			}
		})
	}
}

func TestGroupsAreAskedForUntilTheyFit(t *testing.T) {
	for _, c := range []struct {
		name string
		n    int
		asks int
	}{{"none", 0, 1}, {"as many as fit", 32, 1}, {"one more", 33, 2}, {"the most there can be", maxGroups, 2}} {
		t.Run(c.name, func(t *testing.T) {
			k := newFake()
			k.gids = make([]uint32, c.n)
			groups, known := identify(k, fakeConn{}).Groups.Get()
			require.True(t, known)
			require.Len(t, groups, c.n)
			require.Equal(t, c.asks, k.groupsAsks)
		})
	}
}

func TestGroupsThatCannotBeKnown(t *testing.T) {
	for _, c := range []struct {
		name string
		err  error
		want string
		asks int
	}{
		{"before Linux 4.13", unix.ENOPROTOOPT, "Linux 4.13", 1},
		{"no memory", unix.ENOMEM, "cannot allocate memory", 1},
		{"a kernel that is never content", unix.ERANGE, "SO_PEERGROUPS", 12}, // 32 to 65536
	} {
		t.Run(c.name, func(t *testing.T) {
			k := newFake()
			k.groupsErr = c.err
			id := identify(k, fakeConn{})
			require.False(t, id.Groups.Known())
			require.Contains(t, id.Groups.Reason(), c.want)
			require.Equal(t, c.asks, k.groupsAsks)
			require.True(t, id.UID.Known())
		})
	}
}

func TestUnmappedIDs(t *testing.T) {
	for _, c := range []struct {
		name       string
		id         uint32
		overflowID uint32
		known      bool
	}{
		{"the one below", Overflow - 1, Overflow, true},
		{"the overflow id", Overflow, Overflow, false},
		{"the one above", Overflow + 1, Overflow, true},
		{"a host with another overflow id", 99, 99, false},
		{"the usual one on such a host", Overflow, 99, false},
		{"none", noID, Overflow, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			k := newFake()
			k.overflowID, k.cred.Gid, k.gids = c.overflowID, c.id, []uint32{4, c.id}
			id := identify(k, fakeConn{})
			require.Equal(t, c.known, id.GID.Known())
			groups, _ := id.Groups.Get()
			require.Len(t, groups, map[bool]int{true: 2, false: 1}[c.known])
			if c.id == noID {
				return // as a uid it means that there are no credentials
			}
			k.cred.Uid = c.id
			id = identify(k, fakeConn{})
			require.Equal(t, c.known, id.UID.Known())
			require.Equal(t, uidPrincipal(c.id), id.Principal(), "limits still count for it")
			require.True(t, id.PID.Known())
		})
	}
}

func TestNoCredentials(t *testing.T) {
	for _, c := range []struct {
		name   string
		conn   fakeConn
		change func(k *fakeKernel)
		want   string
	}{
		{"closed", fakeConn{err: os.ErrClosed}, func(*fakeKernel) {}, "closed"},
		{"refused", fakeConn{}, func(k *fakeKernel) { k.credErr = unix.EINVAL }, "SO_PEERCRED: invalid argument"},
		{"no uid", fakeConn{}, func(k *fakeKernel) { k.cred.Uid = noID }, "no peer credentials"},
	} {
		t.Run(c.name, func(t *testing.T) {
			k := newFake()
			c.change(k)
			id := identify(k, c.conn)
			require.Equal(t, PrincipalUnknown, id.Principal())
			for name, reason := range id.Unknowns() {
				require.Contains(t, reason, c.want, name)
			}
			require.Len(t, id.Unknowns(), 7)
			require.Zero(t, k.open)
		})
	}
}

func TestOtherPidNamespace(t *testing.T) {
	k := newFake()
	k.cred.Pid = 0
	id := identify(k, fakeConn{})
	require.True(t, id.UID.Known())
	require.True(t, id.Groups.Known())
	require.Equal(t, map[string]string{
		"pid":        "the caller lives in another pid namespace",
		"executable": "the caller lives in another pid namespace",
		"unit":       "the caller lives in another pid namespace",
		"container":  "the caller lives in another pid namespace",
	}, id.Unknowns())
	require.False(t, k.read)
}

func TestExecutables(t *testing.T) {
	for _, c := range []struct {
		name, exe string
		err       error
		want      string
		reason    string
	}{
		{name: "plain", exe: "/usr/bin/curl", want: "/usr/bin/curl"},
		{name: "spaces, quotes and letters", exe: `/opt/Müller's "app"/run it`, want: `/opt/Müller's "app"/run it`},
		{name: "deleted", exe: "/usr/bin/curl (deleted)", want: "/usr/bin/curl (deleted)"},
		{name: "a second line", exe: "/tmp/x\nuid:0 allowed", want: `/tmp/x\nuid:0 allowed`},
		{name: "an escape sequence", exe: "/tmp/\x1b[2Jx\x00", want: `/tmp/\x1b[2Jx\x00`},
		{name: "text turned round", exe: "/tmp/\u202egnp.x", want: `/tmp/\u202egnp.x`},
		{name: "a backslash", exe: `/tmp/\n`, want: `/tmp/\\n`},
		{name: "no UTF-8", exe: "/tmp/\xff", want: `/tmp/\xff`},
		{name: "another user's", err: &fs.PathError{Op: "readlink", Err: unix.EACCES}, reason: "CAP_SYS_PTRACE"},
		{name: "none", err: &fs.PathError{Op: "readlink", Path: "exe", Err: unix.ENOENT}, reason: "/proc/PID/exe: no such file"},
	} {
		t.Run(c.name, func(t *testing.T) {
			k := newFake()
			k.proc.exe, k.proc.err = c.exe, c.err
			id := identify(k, fakeConn{})
			got, known := id.Executable.Get()
			require.Equal(t, c.err == nil, known)
			require.Equal(t, c.want, got)
			require.Contains(t, id.Executable.Reason(), c.reason)
			require.True(t, id.Unit.Known(), "one unknown fact says nothing about another")
		})
	}
}

func TestUnreadableCgroup(t *testing.T) {
	k := newFake()
	delete(k.proc.files, "cgroup")
	id := identify(k, fakeConn{})
	require.Equal(t, "/proc/PID/cgroup: no such process", id.Unit.Reason())
	require.Equal(t, id.Unit.Reason(), id.Container.Reason())
	require.True(t, id.Executable.Known())
}

func TestPidLine(t *testing.T) {
	for _, c := range []struct {
		name, fdinfo string
		want         int
		bad          bool
	}{
		{name: "alive", fdinfo: "pos:\t0\nflags:\t02000002\nmnt_id:\t15\nPid:\t1234\nNSpid:\t1234\t1\n", want: 1234},
		{name: "gone", fdinfo: "Pid:\t-1\nNSpid:\t-1\n", want: -1},
		{name: "no newline", fdinfo: "Pid:\t7", want: 7},
		{name: "only the pid inside", fdinfo: "NSpid:\t1234\n", bad: true},
		{name: "no number", fdinfo: "Pid:\tx\n", bad: true},
		{name: "empty", bad: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := pidLine([]byte(c.fdinfo))
			require.Equal(t, c.bad, err != nil)
			if !c.bad {
				require.Equal(t, c.want, got)
			}
		})
	}
}

func TestReadID(t *testing.T) {
	dir := t.TempDir()
	for name, c := range map[string]struct {
		content string
		want    uint32
	}{"number": {"99\n", 99}, "garbage": {"x", Overflow}, "too large": {"4294967296", Overflow}} {
		path := dir + "/" + strings.ReplaceAll(name, " ", "")
		require.NoError(t, os.WriteFile(path, []byte(c.content), 0o600))
		require.Equal(t, c.want, readID(path), name)
	}
	require.EqualValues(t, Overflow, readID(dir+"/missing"))
}

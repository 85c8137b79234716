package peer

import (
	"errors"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// Ids that no account has.
const (
	otherUID = 41001
	otherGID = 41002
)

func TestOwnProcess(t *testing.T) {
	ln, path := listen(t)
	client, err := net.Dial("unix", path)
	require.NoError(t, err)
	defer func() { require.NoError(t, client.Close()) }()
	id := Of(accept(t, ln))

	require.Equal(t, uidPrincipal(uint32(os.Geteuid())), id.Principal())
	require.Equal(t, Known(uint32(os.Geteuid())), id.UID)
	require.Equal(t, Known(uint32(os.Getegid())), id.GID)
	require.Equal(t, Known(int32(os.Getpid())), id.PID)
	exe, err := os.Readlink("/proc/self/exe")
	require.NoError(t, err)
	require.Equal(t, Known(exe), id.Executable)

	groups, known := id.Groups.Get()
	require.True(t, known, id.Groups.Reason())
	want, err := os.Getgroups()
	require.NoError(t, err)
	got := []int{}
	for _, g := range groups {
		got = append(got, int(g))
	}
	require.ElementsMatch(t, want, got)

	b, err := os.ReadFile("/proc/self/cgroup")
	require.NoError(t, err)
	unit, container := parseCgroup(b)
	require.Equal(t, unit, id.Unit)
	require.Equal(t, container, id.Container)
}

func TestOtherUserGroupAndGroups(t *testing.T) {
	needRoot(t)
	many := make([]uint32, 1000)
	for i := range many {
		many[i] = uint32(50000 + i)
	}
	for name, groups := range map[string][]uint32{
		"no groups":                   {},
		"two groups":                  {41003, 41004},
		"more than the first attempt": many,
	} {
		t.Run(name, func(t *testing.T) {
			ln, path := listen(t)
			c := start(t, "caller", path, &syscall.SysProcAttr{
				Credential: &syscall.Credential{Uid: otherUID, Gid: otherGID, Groups: groups},
			}, unconnected(t))
			require.Equal(t, "connected", c.line())
			conn := accept(t, ln)
			id := Of(conn)
			require.Equal(t, "uid:41001", id.Principal())
			require.Equal(t, Known(uint32(otherUID)), id.UID)
			require.Equal(t, Known(uint32(otherGID)), id.GID)
			got, known := id.Groups.Get()
			require.True(t, known, id.Groups.Reason())
			require.ElementsMatch(t, groups, got)
			require.Equal(t, Known(int32(c.cmd.Process.Pid)), id.PID)

			uid, ok := UID(conn)
			require.True(t, ok)
			require.EqualValues(t, otherUID, uid)
		})
	}
}

// The caller connects, hands its connection to somebody else and exits before
// the daemon looks.
func TestCallerThatHandedItsConnectionOnAndExited(t *testing.T) {
	for name, k := range map[string]kernel{"this kernel": linux{}, "without SO_PEERPIDFD": old{}} {
		t.Run(name, func(t *testing.T) {
			ln, path := listen(t)
			kept := unconnected(t) // so the connection outlives the caller
			c := start(t, "caller", path, nil, kept)
			require.Equal(t, "connected", c.line())
			pid := c.cmd.Process.Pid
			c.end()

			id := identify(k, accept(t, ln))
			require.Equal(t, uidPrincipal(uint32(os.Geteuid())), id.Principal())
			require.Equal(t, Known(int32(pid)), id.PID)
			require.Contains(t, id.Executable.Reason(), reasonExited)
			require.Contains(t, id.Unit.Reason(), reasonExited)
			require.Contains(t, id.Container.Reason(), reasonExited)
		})
	}
}

// What a caller becomes after it connected is still that caller.
func TestCallerThatBecomesAnotherProgram(t *testing.T) {
	ln, path := listen(t)
	c := start(t, "exec", path, nil, unconnected(t))
	require.Equal(t, "connected", c.line())
	id := Of(accept(t, ln))
	require.Equal(t, Known(int32(c.cmd.Process.Pid)), id.PID)
	sh, err := os.Readlink("/proc/" + c.pid() + "/exe")
	require.NoError(t, err)
	require.Equal(t, Known(sh), id.Executable)
}

// old is this machine's kernel as it was before Linux 6.5.
type old struct{ linux }

func (old) pidfd(int) (int, error) { return -1, unix.ENOPROTOOPT }

func TestNewProcessOnAnOldKernel(t *testing.T) {
	ln, path := listen(t)
	c := start(t, "caller", path, nil, unconnected(t))
	require.Equal(t, "connected", c.line())
	id := identify(old{}, accept(t, ln))
	require.Equal(t, Known(int32(c.cmd.Process.Pid)), id.PID)
	require.Contains(t, id.Executable.Reason(), "less than 10s")
	require.Contains(t, id.Unit.Reason(), "less than 10s")
}

func TestLeavesNothingOpen(t *testing.T) {
	ln, path := listen(t)
	client, err := net.Dial("unix", path)
	require.NoError(t, err)
	defer func() { require.NoError(t, client.Close()) }()
	conn := accept(t, ln)
	Of(conn) // whatever the runtime opens once
	before := openFiles(t)
	for range 20 {
		Of(conn)
		UID(conn)
	}
	require.Equal(t, before, openFiles(t))
}

func openFiles(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	return len(entries)
}

// A program that the daemon starts while it looks at a caller must not get a
// handle on that caller.
func TestPidfdIsClosedOnExec(t *testing.T) {
	ln, path := listen(t)
	client, err := net.Dial("unix", path)
	require.NoError(t, err)
	defer func() { require.NoError(t, client.Close()) }()
	rc, err := accept(t, ln).SyscallConn()
	require.NoError(t, err)
	require.NoError(t, rc.Control(func(fd uintptr) {
		pidfd, err := linux{}.pidfd(int(fd))
		if errors.Is(err, unix.ENOPROTOOPT) {
			t.Skip("this kernel has no SO_PEERPIDFD")
		}
		require.NoError(t, err)
		defer linux{}.close(pidfd)
		flags, err := unix.FcntlInt(uintptr(pidfd), unix.F_GETFD, 0)
		require.NoError(t, err)
		require.NotZero(t, flags&unix.FD_CLOEXEC)
	}))
}

// A blocking description would ignore deadlines, and a shutdown would hang.
func TestConnectionStaysNonblocking(t *testing.T) {
	ln, path := listen(t)
	client, err := net.Dial("unix", path)
	require.NoError(t, err)
	defer func() { require.NoError(t, client.Close()) }()
	conn := accept(t, ln)
	Of(conn)
	UID(conn)
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(time.Millisecond)))
	_, err = conn.Read(make([]byte, 1))
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
}

func TestWhatIsNoConnectedUnixSocket(t *testing.T) {
	ln, path := listen(t)
	client, err := net.Dial("unix", path)
	require.NoError(t, err)
	closed := accept(t, ln)
	require.NoError(t, client.Close())
	require.NoError(t, closed.Close())

	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { require.NoError(t, tcp.Close()) }()
	dialled, err := net.Dial("tcp", tcp.Addr().String())
	require.NoError(t, err)
	defer func() { require.NoError(t, dialled.Close()) }()

	for name, c := range map[string]syscall.Conn{"closed": closed, "tcp": dialled.(*net.TCPConn)} {
		t.Run(name, func(t *testing.T) {
			id := Of(c)
			require.Equal(t, PrincipalUnknown, id.Principal())
			require.Len(t, id.Unknowns(), 7, "%v", id.Unknowns())
			_, ok := UID(c)
			require.False(t, ok)
		})
	}
}

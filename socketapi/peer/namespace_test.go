package peer

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// serve starts a daemon's side in namespaces of its own.
func serve(t *testing.T, attr *syscall.SysProcAttr) (*child, string) {
	t.Helper()
	ln, path := listen(t)
	f, err := ln.File()
	require.NoError(t, err)
	c := start(t, "server", path, attr, f)
	require.NoError(t, f.Close())
	require.Equal(t, "ready", c.line())
	return c, path
}

// A sidecar's caller lives in another pid namespace, which is no child of the
// daemon's.
func TestCallerInAnotherPidNamespace(t *testing.T) {
	server, path := serve(t, &syscall.SysProcAttr{Cloneflags: namespace(unix.CLONE_NEWPID)})
	client, err := net.Dial("unix", path)
	require.NoError(t, err)
	defer func() { require.NoError(t, client.Close()) }()

	r := server.report()
	require.NotContains(t, r.Identity, "pid=")
	for _, fact := range []string{"pid", "executable", "unit", "container"} {
		require.Equal(t, "the caller lives in another pid namespace", r.Unknown[fact], fact)
	}
}

// namespace adds a user namespace where the test itself may not make any other.
func namespace(flags uintptr) uintptr {
	if os.Geteuid() != 0 {
		return flags | unix.CLONE_NEWUSER
	}
	return flags
}

// A caller in a container below the daemon's own namespaces has a pid there.
func TestCallerInAPidNamespaceBelow(t *testing.T) {
	ln, path := listen(t)
	c := start(t, "caller", path, &syscall.SysProcAttr{Cloneflags: namespace(unix.CLONE_NEWPID)}, unconnected(t))
	require.Equal(t, "connected", c.line())
	id := Of(accept(t, ln))
	require.Equal(t, Known(int32(c.cmd.Process.Pid)), id.PID)
	require.NotContains(t, id.Unit.Reason(), "pid namespace")
}

// A caller whose user means nothing in the daemon's user namespace is nobody in
// particular.
func TestCallerWithAnUnmappedUser(t *testing.T) {
	// Without a mapping every user is unmapped, the test's own included.
	server, path := serve(t, &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER})
	client, err := net.Dial("unix", path)
	require.NoError(t, err)
	defer func() { require.NoError(t, client.Close()) }()

	r := server.report()
	require.Contains(t, r.Unknown["uid"], "not mapped")
	require.Contains(t, r.Unknown["gid"], "not mapped")
	require.NotContains(t, r.Unknown, "groups", "there are none that could be known")
	require.Contains(t, r.Identity, "uid:65534")
	require.NotContains(t, r.Identity, "uid=")
}

// Root of a user namespace is the user that made it.
func TestRootOfAUserNamespaceIsNotRoot(t *testing.T) {
	needRoot(t)
	ln, path := listen(t)
	c := start(t, "caller", path, &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: otherUID, Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: otherGID, Size: 1}},
		Credential:  &syscall.Credential{Uid: 0, Gid: 0, NoSetGroups: true},
	}, unconnected(t))
	require.Equal(t, "connected", c.line())
	id := Of(accept(t, ln))
	require.Equal(t, Known(uint32(otherUID)), id.UID)
	require.Equal(t, Known(uint32(otherGID)), id.GID)
	require.Equal(t, "uid:41001", id.Principal())
}

// reused is what playReuse reports.
type reused struct {
	Caller, Stranger int
	// Exited, Reused are the identity seen after the caller was gone and after
	// its pid was somebody else's; Old the last again, without SO_PEERPIDFD.
	Exited, Reused, Old report
}

// playReuse is the whole story in one pid namespace, in which it decides which
// pid comes next: a caller connects and exits, then its pid is reused.
func playReuse() error {
	// Private first, or the mount would be seen outside.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("refused: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return fmt.Errorf("refused: mount /proc: %w", err)
	}
	path := os.Args[1]
	ln, err := net.Listen("unix", path)
	if err != nil {
		return err
	}
	var out reused
	var conns [3]*net.UnixConn
	if out.Caller, err = connectAndExit(path, conns[:], ln); err != nil {
		return err
	}
	out.Exited = reportOf(Of(conns[0]))
	if err := os.WriteFile("/proc/sys/kernel/ns_last_pid", []byte(strconv.Itoa(out.Caller-1)), 0); err != nil {
		return fmt.Errorf("refused: %w", err)
	}
	stranger := self("idle", path)
	stdin, err := stranger.StdinPipe()
	if err != nil {
		return err
	}
	if err := stranger.Start(); err != nil {
		return err
	}
	out.Stranger = stranger.Process.Pid
	out.Reused = reportOf(Of(conns[1]))
	out.Old = reportOf(identify(old{}, conns[2]))
	if err := stdin.Close(); err != nil {
		return err
	}
	if err := stranger.Wait(); err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(out)
}

// connectAndExit accepts connections of one process that is gone when it
// returns.
func connectAndExit(path string, conns []*net.UnixConn, ln net.Listener) (pid int, err error) {
	caller := self("callers", path)
	if err := caller.Start(); err != nil {
		return 0, err
	}
	for i := range conns {
		c, err := ln.Accept()
		if err != nil {
			return 0, err
		}
		conns[i] = c.(*net.UnixConn)
	}
	return caller.Process.Pid, caller.Wait()
}

func self(role, path string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", path)
	cmd.Env = childEnv(role)
	cmd.Stderr = os.Stderr
	return cmd
}

func init() {
	roles["callers"] = func() error {
		for range 3 {
			if _, err := net.Dial("unix", os.Args[1]); err != nil {
				return err
			}
		}
		return nil
	}
}

func TestReusedPidIsNotTakenForTheCaller(t *testing.T) {
	attr := &syscall.SysProcAttr{Cloneflags: namespace(unix.CLONE_NEWPID | unix.CLONE_NEWNS)}
	if os.Geteuid() != 0 {
		attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}}
	}
	c := start(t, "reuse", filepath.Join(t.TempDir(), "s"), attr)
	line, err := c.stdout.ReadString('\n')
	if err != nil {
		c.end()
		require.Contains(t, c.stderr.String(), "refused")
		t.Skipf("no pid can be chosen here: %s", &c.stderr)
	}
	var r reused
	require.NoError(t, json.Unmarshal([]byte(line), &r))
	require.Equal(t, r.Caller, r.Stranger, "the test must really reuse the pid")
	for name, r := range map[string]report{"exited": r.Exited, "reused": r.Reused, "reused, old kernel": r.Old} {
		for _, fact := range []string{"executable", "unit", "container"} {
			require.NotEmpty(t, r.Unknown[fact], "%s: %s", name, fact)
		}
	}
	require.Equal(t, reasonExited, r.Reused.Unknown["unit"])
}

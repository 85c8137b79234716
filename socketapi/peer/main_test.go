package peer

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

// childVar names the role that this binary plays instead of running tests, when
// a test starts it again as a real process with a user, groups and namespaces
// of its own.
const childVar = "GRANTEXD_PEER_TEST_ROLE"

func TestMain(m *testing.M) {
	if role := os.Getenv(childVar); role != "" {
		if err := roles[role](); err != nil {
			fmt.Fprintln(os.Stderr, role+":", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// inherited is the first descriptor that a child gets from the test.
const inherited = 3

var roles = map[string]func() error{
	"caller": playCaller,
	"exec":   playExec,
	"server": playServer,
	"idle":   func() error { return waitForEnd(os.Stdin) },
	"reuse":  playReuse,
}

// playCaller connects the inherited socket, says so, and stays until stdin
// ends.
func playCaller() error {
	if err := connectInherited(); err != nil {
		return err
	}
	fmt.Println("connected")
	return waitForEnd(os.Stdin)
}

// playExec connects the inherited socket and becomes another program.
func playExec() error {
	if err := connectInherited(); err != nil {
		return err
	}
	return syscall.Exec("/bin/sh", []string{"sh", "-c", "echo connected; read line"}, nil)
}

// playServer accepts one connection on the inherited listener and reports who
// is calling.
func playServer() error {
	ln, err := net.FileListener(os.NewFile(inherited, "listener"))
	if err != nil {
		return err
	}
	fmt.Println("ready")
	c, err := ln.Accept()
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(reportOf(Of(c.(*net.UnixConn))))
}

func connectInherited() error {
	return unix.Connect(inherited, &unix.SockaddrUnix{Name: os.Args[1]})
}

func waitForEnd(r io.Reader) error {
	_, err := io.Copy(io.Discard, r)
	return err
}

// report is an identity on its way between processes.
type report struct {
	Identity string
	Unknown  map[string]string
}

func reportOf(id *Identity) report { return report{Identity: id.String(), Unknown: id.Unknowns()} }

// child is this binary in a role.
type child struct {
	t      *testing.T
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stdout *bufio.Reader
	stderr strings.Builder
}

// childEnv spares children of a test under the race detector the second that it
// else waits before each exit.
func childEnv(role string) []string {
	return []string{childVar + "=" + role, "GORACE=atexit_sleep_ms=0"}
}

// start runs a role. It skips the test where the kernel refuses the namespaces
// that attr asks for.
func start(t *testing.T, role, socket string, attr *syscall.SysProcAttr, files ...*os.File) *child {
	t.Helper()
	c := &child{t: t}
	// Not os.Executable: another user can't search the directory it is in.
	c.cmd = exec.Command("/proc/self/exe", socket)
	c.cmd.Env = childEnv(role)
	c.cmd.SysProcAttr = attr
	c.cmd.ExtraFiles = files
	c.cmd.Dir = "/"
	c.cmd.Stderr = &c.stderr
	stdin, err := c.cmd.StdinPipe()
	require.NoError(t, err)
	stdout, err := c.cmd.StdoutPipe()
	require.NoError(t, err)
	c.stdin, c.stdout = stdin, bufio.NewReader(stdout)
	if err := c.cmd.Start(); err != nil {
		if attr != nil && attr.Cloneflags != 0 {
			t.Skipf("the kernel refuses these namespaces: %v", err)
		}
		require.NoError(t, err)
	}
	t.Cleanup(c.end)
	return c
}

// line returns the child's next line.
func (c *child) line() string {
	c.t.Helper()
	s, err := c.stdout.ReadString('\n')
	require.NoError(c.t, err, "stderr: %s", &c.stderr)
	return strings.TrimSpace(s)
}

// report returns the identity that the child reports.
func (c *child) report() report {
	c.t.Helper()
	var r report
	line := c.line()
	require.NoError(c.t, json.Unmarshal([]byte(line), &r), line)
	return r
}

// end lets the child finish, and waits for it.
func (c *child) end() {
	if c.cmd.ProcessState != nil {
		return
	}
	_ = c.stdin.Close() // it may be gone already
	_, _ = io.Copy(io.Discard, c.stdout)
	_ = c.cmd.Wait() // some are meant to fail
}

func (c *child) pid() string { return strconv.Itoa(c.cmd.Process.Pid) }

// listen returns a listener that everybody on the host may connect to.
func listen(t *testing.T) (*net.UnixListener, string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "peer")
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	require.NoError(t, os.Chmod(dir, 0o755))
	path := filepath.Join(dir, "s")
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	require.NoError(t, err)
	t.Cleanup(func() { _ = ln.Close() })
	require.NoError(t, os.Chmod(path, 0o777))
	return ln, path
}

// unconnected returns a socket for a child to connect.
func unconnected(t *testing.T) *os.File {
	t.Helper()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	f := os.NewFile(uintptr(fd), "socket")
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func accept(t *testing.T, ln *net.UnixListener) *net.UnixConn {
	t.Helper()
	c, err := ln.AcceptUnix()
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// needRoot skips a test that starts processes of other users.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can start processes of other users")
	}
}

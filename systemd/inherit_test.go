package systemd

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// childReport is what a child that stands for the service saw.
type childReport struct {
	Error     string
	Listeners map[string][]string // addresses
	Stored    map[string][]string // contents
	Environ   []string            // LISTEN_* that are left
	Inherits  []int               // passed descriptors that a grandchild would get
	SecondGot int                 // what a second Inherit got
}

// runChild takes over what it was passed, reports, and then answers one
// connection on each listener, by their names in order, with that name.
func runChild() int {
	report := childReport{Listeners: map[string][]string{}, Stored: map[string][]string{}}
	passed, _ := strconv.Atoi(os.Getenv("LISTEN_FDS"))
	in, err := Inherit()
	if err != nil {
		report.Error = err.Error()
		in = &Inherited{}
	}
	for name, listeners := range in.Listeners {
		for _, l := range listeners {
			report.Listeners[name] = append(report.Listeners[name], l.Addr().String())
		}
	}
	for name, files := range in.Stored {
		for _, f := range files {
			content, err := ReadSealed(f)
			if err != nil {
				content = []byte(err.Error())
			}
			report.Stored[name] = append(report.Stored[name], string(content))
		}
	}
	for _, v := range os.Environ() {
		if strings.HasPrefix(v, "LISTEN_") {
			report.Environ = append(report.Environ, v)
		}
	}
	for fd := 3; fd < 3+passed; fd++ {
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
		if err == nil && flags&unix.FD_CLOEXEC == 0 {
			report.Inherits = append(report.Inherits, fd)
		}
	}
	if again, err := Inherit(); err == nil {
		report.SecondGot = len(again.Listeners) + len(again.Stored)
	}
	if err := json.NewEncoder(os.Stdout).Encode(report); err != nil {
		return 1
	}
	for _, name := range slices.Sorted(maps.Keys(in.Listeners)) {
		for _, l := range in.Listeners[name] {
			conn, err := l.Accept()
			if err != nil {
				return 1
			}
			_, _ = io.WriteString(conn, name)
			_ = conn.Close()
		}
	}
	if err := in.Close(); err != nil {
		return 1
	}
	return 0
}

// child is a running child and the first thing that it said.
type child struct {
	report childReport
	wait   func()
}

// startChild runs this test binary as systemd runs a service that gets files.
func startChild(t *testing.T, names string, files ...*os.File) child {
	t.Helper()
	// A shell, because LISTEN_PID must be the pid that only exec keeps.
	cmd := exec.Command("/bin/sh", "-c", `LISTEN_PID=$$ exec "$0"`, os.Args[0])
	// GORACE, because a race-enabled program sleeps a second before it exits.
	cmd.Env = append(os.Environ(), childRole+"=1", "LISTEN_PIDFDID=1", "GORACE=atexit_sleep_ms=0",
		fmt.Sprintf("LISTEN_FDS=%d", len(files)), "LISTEN_FDNAMES="+names)
	cmd.ExtraFiles = files
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	c := child{wait: func() { require.NoError(t, cmd.Wait()) }}
	require.NoError(t, json.NewDecoder(out).Decode(&c.report))
	require.Empty(t, c.report.Inherits, "a child of the service would inherit descriptors")
	require.Empty(t, c.report.Environ, "a child of the service would think it is meant")
	require.Zero(t, c.report.SecondGot)
	return c
}

// listenFile returns a listening socket at path as the manager holds it.
func listenFile(t *testing.T, path string) *os.File {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	require.NoError(t, err)
	l.SetUnlinkOnClose(false)
	f, err := l.File()
	require.NoError(t, err)
	require.NoError(t, l.Close())
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func socketDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "inherit")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	return dir
}

func TestInheritTellsListenersFromStoredDescriptors(t *testing.T) {
	dir := socketDir(t)
	paths := []string{filepath.Join(dir, "a"), filepath.Join(dir, "b"), filepath.Join(dir, "c")}
	memfd, err := SealedMemfd("x", []byte("content"))
	require.NoError(t, err)
	defer func() { require.NoError(t, memfd.Close()) }()

	// The memfd bears a listener's name: what it is decides, not its name.
	c := startChild(t, "api:api:api:other",
		listenFile(t, paths[0]), memfd, listenFile(t, paths[1]), listenFile(t, paths[2]))
	require.Empty(t, c.report.Error)
	require.Equal(t, map[string][]string{"api": paths[:2], "other": {paths[2]}}, c.report.Listeners)
	require.Equal(t, map[string][]string{"api": {"content"}}, c.report.Stored)

	// The listeners work, and outlive the process as paths.
	for i, want := range []string{"api", "api", "other"} {
		conn, err := net.Dial("unix", paths[i])
		require.NoError(t, err)
		require.NoError(t, conn.SetDeadline(time.Now().Add(testPatience)))
		got, err := io.ReadAll(conn)
		require.NoError(t, err)
		require.NoError(t, conn.Close())
		require.Equal(t, want, string(got))
	}
	c.wait()
	for _, path := range paths {
		require.FileExists(t, path)
	}
}

func TestInheritRefusesAForeignSocket(t *testing.T) {
	dir := socketDir(t)
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "d"), Net: "unixgram"})
	require.NoError(t, err)
	defer func() { require.NoError(t, l.Close()) }()
	datagram, err := l.File()
	require.NoError(t, err)
	defer func() { require.NoError(t, datagram.Close()) }()

	c := startChild(t, "api:wrong", listenFile(t, filepath.Join(dir, "a")), datagram)
	require.Contains(t, c.report.Error, `"wrong"`)
	require.Contains(t, c.report.Error, "does not listen")
	c.wait()
}

func TestInheritNothing(t *testing.T) {
	c := startChild(t, "")
	require.Empty(t, c.report.Error)
	require.Empty(t, c.report.Listeners)
	require.Empty(t, c.report.Stored)
	c.wait()
}

// Variables that were meant for another process, a parent for example, give it
// nothing, and above all don't make it take descriptors that are its own.
func TestInheritIgnoresWhatIsMeantForAnotherProcess(t *testing.T) {
	t.Setenv("LISTEN_PID", fmt.Sprint(os.Getppid()))
	t.Setenv("LISTEN_FDS", "3")
	t.Setenv("LISTEN_FDNAMES", "a:b:c")
	in, err := Inherit()
	require.NoError(t, err)
	require.Empty(t, in.Listeners)
	require.Empty(t, in.Stored)
}

func TestCloseInherited(t *testing.T) {
	l, err := net.Listen("unix", filepath.Join(socketDir(t), "a"))
	require.NoError(t, err)
	f, err := SealedMemfd("x", nil)
	require.NoError(t, err)
	in := &Inherited{
		Listeners: map[string][]net.Listener{"a": {l}},
		Stored:    map[string][]*os.File{"b": {f}},
	}
	require.NoError(t, in.Close())
	require.ErrorIs(t, l.Close(), net.ErrClosed)
	require.ErrorIs(t, f.Close(), os.ErrClosed)
	require.NoError(t, (&Inherited{}).Close())
}

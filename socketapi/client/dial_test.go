package client

import (
	"context"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestPermissionHint(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	require.NoError(t, err)
	defer func() { _ = l.Close() }()

	require.NoError(t, os.Chmod(path, 0o600))
	require.Contains(t, hint(path, syscall.EACCES), "only its owner")
	require.NoError(t, os.Chmod(path, 0o660))
	require.Contains(t, hint(path, syscall.EACCES), "member of the group")
	if g, err := user.LookupGroupId(strconv.Itoa(os.Getegid())); err == nil {
		require.Contains(t, hint(path, syscall.EACCES), "group "+g.Name+";")
	}
	require.Contains(t, hint(filepath.Join(path, "x"), syscall.EPERM), "directory")
	if os.Geteuid() == 0 {
		require.NoError(t, os.Chown(path, -1, 54321))
		require.Contains(t, hint(path, syscall.EACCES), "group 54321", "a group without a name")
	}
}

func TestHintOfWhatIsNoSocket(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "README.md")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	for _, path := range []string{dir, file} {
		_, err := dial(t.Context(), path)
		require.ErrorContains(t, err, "this is not a socket; check --socket and GRANTEXD_SOCKET")
		require.Contains(t, hint(path, syscall.EACCES), "not a socket")
	}
	socket := filepath.Join(dir, "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket})
	require.NoError(t, err)
	l.SetUnlinkOnClose(false)
	require.NoError(t, l.Close())
	require.Contains(t, hint(socket, syscall.ECONNREFUSED), "nobody answers on it any more")
}

// Whoever names no socket learns of both that were looked for.
func TestHintOfTheDefault(t *testing.T) {
	if _, err := os.Lstat(SystemSocket); err == nil {
		t.Skip("a daemon of the system's is here")
	}
	dir := t.TempDir()
	own := filepath.Join(dir, "grantexd", "grantexd.sock")
	t.Setenv(SocketEnv, "")
	for _, tt := range []struct{ name, dir, socket, want, not string }{
		{"a user", dir, "", own + "; start the daemon (systemctl start grantexd, systemctl --user start grantexd.socket,", "\n"},
		{"nobody's session", "", "", "(systemctl start grantexd, or grantexd serve)", "--user"},
		{"a socket that was named", dir, filepath.Join(dir, "x"), "(systemctl start grantexd, or grantexd serve)", own},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv("XDG_RUNTIME_DIR", tt.dir)
			c := Client{Socket: tt.socket}
			err := c.Health(t.Context())
			require.ErrorIs(t, err, syscall.ENOENT)
			require.ErrorContains(t, err, tt.want)
			require.NotContains(t, err.Error(), tt.not)
			if tt.socket == "" {
				require.ErrorContains(t, err, SystemSocket)
			}
		})
	}
}

func TestHintsForTheRest(t *testing.T) {
	require.Contains(t, hint("/s", syscall.EAGAIN), "alive")
	require.Contains(t, hint("/s", syscall.EIO), "log")
	e := &DialError{Socket: "/s", Hint: "do this", Err: context.DeadlineExceeded}
	require.EqualError(t, e, "can't reach grantexd at /s: context deadline exceeded: do this")
}

// fullSocket returns a socket whose backlog is full.
func fullSocket(t *testing.T) (path string, l *net.UnixListener) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "s")
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	require.NoError(t, syscall.Bind(fd, &syscall.SockaddrUnix{Name: path}))
	require.NoError(t, syscall.Listen(fd, 0))
	file := os.NewFile(uintptr(fd), path)
	inner, err := net.FileListener(file)
	require.NoError(t, err)
	require.NoError(t, file.Close())
	t.Cleanup(func() { _ = inner.Close() })
	for {
		c, err := net.Dial("unix", path)
		if err != nil {
			require.ErrorIs(t, err, syscall.EAGAIN)
			return path, inner.(*net.UnixListener)
		}
		t.Cleanup(func() { _ = c.Close() })
	}
}

func TestDialWaitsForAFullBacklog(t *testing.T) {
	path, l := fullSocket(t)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_ = c.Close()
		}
	}()
	c, err := dial(t.Context(), path)
	require.NoError(t, err)
	require.NoError(t, c.Close())
}

func TestDialDoesNotWaitForever(t *testing.T) {
	path, _ := fullSocket(t)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := dial(ctx, path)
	require.ErrorIs(t, err, context.DeadlineExceeded)

	begin := time.Now()
	_, err = dial(t.Context(), path)
	var dialError *DialError
	require.ErrorAs(t, err, &dialError)
	require.ErrorIs(t, err, syscall.EAGAIN)
	require.Contains(t, dialError.Hint, "alive")
	require.GreaterOrEqual(t, time.Since(begin), busyRetries*busyPause)
}

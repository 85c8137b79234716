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

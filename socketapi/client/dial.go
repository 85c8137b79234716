package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/user"
	"strconv"
	"syscall"
	"time"
)

// DialError means that the daemon could not be reached at all.
type DialError struct {
	// Socket is the path that was tried.
	Socket string
	// Hint says what to do about it, in a sentence.
	Hint string
	// Err is what the system said.
	Err error
}

// Error says which socket can't be reached, why, and what to do.
func (e *DialError) Error() string {
	return fmt.Sprintf("can't reach grantexd at %s: %s: %s", e.Socket, reason(e.Err), e.Hint)
}

// Unwrap returns what the system said.
func (e *DialError) Unwrap() error { return e.Err }

// reason is the system's word alone, without the path that stands before it.
func reason(err error) string {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return errno.Error()
	}
	return err.Error()
}

// busyRetries is how often a connect is tried again whose only fault is that
// thousands of others connect right now (EAGAIN, connect(2)), busyPause how long
// it waits in between.
const (
	busyRetries = 1000
	busyPause   = time.Millisecond
)

// dial connects to the socket at path.
func dial(ctx context.Context, path string) (net.Conn, error) {
	var dialer net.Dialer
	for attempt := 0; ; attempt++ {
		c, err := dialer.DialContext(ctx, "unix", path)
		if err == nil {
			return c, nil
		}
		if attempt >= busyRetries || !errors.Is(err, syscall.EAGAIN) {
			return nil, &DialError{Socket: path, Hint: hint(path, err), Err: err}
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(busyPause):
		}
	}
}

// hint says what usually is the matter.
func hint(path string, err error) string {
	switch {
	case notSocket(path):
		return "this is not a socket; check --socket and " + SocketEnv
	case errors.Is(err, syscall.ENOENT), errors.Is(err, syscall.ENOTDIR):
		return "there is no such socket; start the daemon (systemctl start grantexd, or grantexd serve), or set " +
			SocketEnv + " to its socket"
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		return permissionHint(path)
	case errors.Is(err, syscall.ECONNREFUSED):
		return "nobody answers on it any more; start the daemon again, which replaces the socket that was left behind"
	case errors.Is(err, syscall.EAGAIN):
		return "the daemon is alive but accepts no connections; look at its log"
	case errors.Is(err, syscall.EINVAL):
		return "a path of a socket has 107 bytes at most"
	}
	return "look at the daemon's log and at the path"
}

// notSocket reports whether something else than a socket is at path.
func notSocket(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().Type() != os.ModeSocket
}

// dialDefault connects to the socket that [DefaultSocket] has found, and names the
// user's own besides if neither is there.
func dialDefault(ctx context.Context, path string) (net.Conn, error) {
	c, err := dial(ctx, path)
	own := ownSocket()
	var failed *DialError
	if errors.As(err, &failed) && errors.Is(err, syscall.ENOENT) && own != "" && path == SystemSocket {
		failed.Hint = "there is no such socket, nor is there " + own + "; start the daemon (systemctl start grantexd, " +
			"systemctl --user start grantexd.socket, or grantexd serve), or set " + SocketEnv + " to its socket"
	}
	return c, err
}

// permissionHint names who may connect.
func permissionHint(path string) string {
	info, err := os.Stat(path)
	if err != nil {
		return "you may not enter the directory of the socket; ask whoever runs the daemon"
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok || info.Mode().Perm()&0o020 == 0 {
		return fmt.Sprintf("its mode %#o lets only its owner connect; ask whoever runs the daemon", info.Mode().Perm())
	}
	group := strconv.FormatUint(uint64(stat.Gid), 10)
	if g, err := user.LookupGroupId(group); err == nil {
		group = g.Name
	}
	return fmt.Sprintf("you must be a member of the group %s; after you were added, log in again", group)
}

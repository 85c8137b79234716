package socketapi

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// ErrInUse is wrapped by errors of [Listen] that mean that another process
// already listens on the path, or is about to.
var ErrInUse = errors.New("socket is in use")

// DefaultSocketMode lets only the daemon's own user connect.
const DefaultSocketMode fs.FileMode = 0o600

// backlog is how many connections may wait to be accepted. The kernel lowers it to
// net.core.somaxconn (4096 unless set otherwise), which is none too much: who finds
// it full is sent away with EAGAIN, unless his connect blocks.
const backlog = 1 << 15

// ListenOptions describe a Unix socket. The zero value of all but Path is the
// default.
type ListenOptions struct {
	// Path is where the socket is made, used exactly as it is. Required; see
	// [CheckSocketPath] for what it must be. The last directory on it is made,
	// with mode 0755, if it is missing.
	Path string
	// Mode is who may connect (by the permission to write); 0 means
	// DefaultSocketMode.
	Mode fs.FileMode
	// Group is the socket's group, by name or number; "" leaves it to the
	// system.
	Group string
	// Strict refuses a directory in which others could replace the socket.
	// Without it that is only warned of.
	Strict bool
	// Logger gets the warnings; nil discards them.
	Logger *slog.Logger
}

// Listener is a Unix socket that [Listen] made. Closing it removes its path, if
// that is still the socket that it made, and its lock.
type Listener struct {
	*net.UnixListener
	path     string
	identity fileIdentity
	lock     *lockFile

	unlinkOnce, closeOnce sync.Once
	closeErr              error
}

// Listen makes a Unix socket with its mode and group before anybody can connect
// to it. Beside it stands a lock, Path with ".lock" appended, which names the
// process that holds it. A socket that was left behind is replaced; one that
// somebody answers on is left alone (an error that wraps [ErrInUse]), and so is
// everything else that stands at the path.
func Listen(o ListenOptions) (*Listener, error) {
	mode, gid, err := o.permissions()
	if err != nil {
		return nil, err
	}
	if err := prepareDirectory(o); err != nil {
		return nil, err
	}
	lock, err := acquireLock(o.Path + ".lock")
	if err != nil {
		return nil, fmt.Errorf("socket %s: %w", o.Path, err)
	}
	l, err := listenLocked(o.Path, mode, gid)
	if err != nil {
		lock.release()
		return nil, fmt.Errorf("socket %s: %w", o.Path, err)
	}
	l.lock = lock
	return l, nil
}

// permissions returns the mode and the group's number, -1 for no group.
func (o *ListenOptions) permissions() (fs.FileMode, int, error) {
	mode := o.Mode
	if mode == 0 {
		mode = DefaultSocketMode
	}
	if mode&^fs.ModePerm != 0 {
		return 0, 0, fmt.Errorf("socket mode %#o is not made of permission bits alone", uint32(mode))
	}
	gid, err := groupNumber(o.Group)
	return mode, gid, err
}

// groupNumber returns the number of a group by its name or number, -1 for "".
func groupNumber(name string) (int, error) {
	if name == "" {
		return -1, nil
	}
	if gid, err := strconv.ParseUint(name, 10, 31); err == nil {
		return int(gid), nil
	}
	group, err := user.LookupGroup(name)
	if err != nil {
		return 0, fmt.Errorf("group %q: %w; make the group, or name another one", name, err)
	}
	return strconv.Atoi(group.Gid)
}

// prepareDirectory makes the socket's directory if it is missing, and says what
// is wrong with it.
func prepareDirectory(o ListenOptions) error {
	if err := checkPathText(o.Path); err != nil {
		return err
	}
	if err := makeDirectory(filepath.Dir(o.Path)); err != nil {
		return fmt.Errorf("socket %s: %w", o.Path, err)
	}
	problems, err := CheckSocketPath(o.Path)
	if err != nil {
		return err
	}
	for _, p := range problems {
		if o.Strict && p.Refused {
			return fmt.Errorf("socket %s: %s; strict refuses that", o.Path, p.Message)
		}
		if o.Logger != nil {
			o.Logger.Warn("socket's directory is not safe", slog.String("socket", o.Path), slog.String("problem", p.Message))
		}
	}
	return nil
}

// listenLocked makes the socket while the caller holds the path's lock.
func listenLocked(path string, mode fs.FileMode, gid int) (*Listener, error) {
	if err := removeStale(path); err != nil {
		return nil, err
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	file := os.NewFile(uintptr(fd), path)
	defer func() { _ = file.Close() }() // net.FileListener has a copy

	// On Linux bind gives the path the mode of the socket itself, less the
	// umask: with the owner's bits only, it is never more open than asked for.
	if err := unix.Fchmod(fd, uint32(mode)&0o700); err != nil {
		return nil, os.NewSyscallError("fchmod", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		return nil, os.NewSyscallError("bind", err)
	}
	identity, err := openUp(path, mode, gid)
	if err == nil {
		// Until now every attempt to connect was refused.
		err = os.NewSyscallError("listen", unix.Listen(fd, backlog))
	}
	var inner net.Listener
	if err == nil {
		inner, err = net.FileListener(file)
	}
	if err != nil {
		_ = os.Remove(path) // the lock says that it is ours
		return nil, err
	}
	unixListener := inner.(*net.UnixListener) // since the socket is AF_UNIX
	return &Listener{UnixListener: unixListener, path: path, identity: identity}, nil
}

// openUp gives the socket at path its group and then its mode, through a
// descriptor of the very file, so that nothing put in its place is changed.
func openUp(path string, mode fs.FileMode, gid int) (fileIdentity, error) {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return fileIdentity{}, os.NewSyscallError("open", err)
	}
	defer func() { _ = unix.Close(fd) }()
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return fileIdentity{}, os.NewSyscallError("fstat", err)
	}
	if stat.Mode&unix.S_IFMT != unix.S_IFSOCK || int(stat.Uid) != os.Geteuid() {
		return fileIdentity{}, fmt.Errorf("somebody replaced it while it was made: others may write its directory")
	}
	if gid >= 0 {
		if err := unix.Fchownat(fd, "", -1, gid, unix.AT_EMPTY_PATH); err != nil {
			return fileIdentity{}, fmt.Errorf("giving it the group %d: %w; the daemon's user must be a member", gid, err)
		}
	}
	// fchmod takes no O_PATH descriptor; its name under /proc does.
	if err := unix.Chmod("/proc/self/fd/"+strconv.Itoa(fd), uint32(mode)); err != nil {
		return fileIdentity{}, fmt.Errorf("giving it the mode %#o: %w", uint32(mode), err)
	}
	return identityOf(&stat), nil
}

// removeStale removes a socket that nobody answers on, and refuses anything else
// that stands at path.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := socketOrNothing(info); err != nil {
		return err
	}
	dialer := net.Dialer{Timeout: time.Second}
	c, err := dialer.DialContext(context.Background(), "unix", path)
	if err == nil {
		_ = c.Close()
		return fmt.Errorf("%w: somebody who does not hold its lock answers on it (systemd, for a socket unit of the same path?)", ErrInUse)
	}
	if !errors.Is(err, unix.ECONNREFUSED) {
		return fmt.Errorf("%w, or can't be told to be left behind: %w", ErrInUse, err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("removing what a dead process left: %w", err)
	}
	return nil
}

// Path returns the path of the socket, as it was asked for.
func (l *Listener) Path() string { return l.path }

// unlink removes the path if it is still the socket that was made there.
func (l *Listener) unlink() {
	l.unlinkOnce.Do(func() { l.identity.remove(l.path) })
}

// Close stops listening and removes the path and the lock. It can be called
// again, with the same result.
func (l *Listener) Close() error {
	l.closeOnce.Do(func() {
		l.unlink()
		l.closeErr = l.UnixListener.Close()
		l.lock.release()
	})
	return l.closeErr
}

package systemd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// managerPatience bounds how long a message to the manager, and its
	// confirmation, may take. sd_notify_barrier(3) has no default; 5 s is what
	// systemd-notify(1) waits.
	managerPatience = 5 * time.Second
	// maxDescriptorName is the longest name the store takes (sd_notify(3)).
	maxDescriptorName = 255
)

// sendStore puts f into the store of this service's descriptors, from which a
// later process of the service gets it back under the same name (FDSTORE=1,
// sd_notify(3)). The unit must have FileDescriptorStoreMax=.
func sendStore(name string, f *os.File) error {
	return control(f, func(fd int) error {
		return send("FDSTORE=1\nFDNAME="+name, fd)
	})
}

// sendRemove drops everything of that name from the store (FDSTOREREMOVE=1).
func sendRemove(name string) error {
	return send("FDSTOREREMOVE=1\nFDNAME=" + name)
}

// barrier returns nil once the manager has worked through every message sent
// before (sd_notify_barrier(3)). Messages are otherwise only known to be queued.
func barrier(ctx context.Context) error {
	if !managed() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, managerPatience)
	defer cancel()
	// The manager gets the only writing end and closes it as its answer.
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer func() { _ = r.Close() }()
	err = control(w, func(fd int) error { return send("BARRIER=1", fd) })
	_ = w.Close()
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = r.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	_, err = r.Read(make([]byte, 1))
	switch {
	case errors.Is(err, io.EOF):
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("the service manager has not confirmed: %w", ctx.Err())
	default:
		return fmt.Errorf("the service manager has not confirmed: read %w", err)
	}
}

// managed reports whether a service manager listens to this process.
func managed() bool { return os.Getenv("NOTIFY_SOCKET") != "" }

// send sends one message with descriptors, which go-systemd can't.
func send(state string, fds ...int) error {
	if !managed() {
		return nil
	}
	if err := sendTo(os.Getenv("NOTIFY_SOCKET"), managerPatience, state, fds...); err != nil {
		return fmt.Errorf("notify the service manager: %w", err)
	}
	return nil
}

// sendTo is a plain sendmsg on an unconnected socket, since Go's connected
// datagram sockets refuse to send descriptors. A socket name that begins with @
// is an abstract one. If the receiver's queue stays full for the timeout, the
// error is EAGAIN.
func sendTo(socket string, timeout time.Duration, state string, fds ...int) error {
	s, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(s) }()
	limit := unix.NsecToTimeval(timeout.Nanoseconds())
	if err := unix.SetsockoptTimeval(s, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &limit); err != nil {
		return err
	}
	var rights []byte
	if len(fds) > 0 {
		rights = unix.UnixRights(fds...)
	}
	for {
		err := unix.Sendmsg(s, []byte(state), rights, &unix.SockaddrUnix{Name: socket}, unix.MSG_NOSIGNAL)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// checkDescriptorName refuses what the store would refuse silently, or read as
// more than a name (sd_notify(3): at most 255 ASCII characters, no control
// characters, no colon).
func checkDescriptorName(name string) error {
	if name == "" || len(name) > maxDescriptorName {
		return fmt.Errorf("descriptor name of %d characters: must have 1 to %d", len(name), maxDescriptorName)
	}
	for _, c := range []byte(name) {
		if c < ' ' || c > '~' || c == ':' {
			return fmt.Errorf("descriptor name %q: must be printable ASCII without a colon", name)
		}
	}
	return nil
}

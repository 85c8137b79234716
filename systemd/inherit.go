package systemd

import (
	"errors"
	"fmt"
	"net"
	"os"

	"github.com/coreos/go-systemd/v22/activation"
	"golang.org/x/sys/unix"
)

// Inherited is what the service manager passed to this process: the sockets of
// the socket units, and the descriptors that an earlier process of the same
// service left in the store. The zero value holds nothing.
type Inherited struct {
	// Listeners are the listening sockets by name (FileDescriptorName= in the
	// socket unit, systemd.socket(5); by default the name of that unit). One
	// name can stand for several sockets, in the order of the unit's lines.
	// Closing one leaves its path in the file system, since that is the socket
	// unit's.
	Listeners map[string][]net.Listener
	// Stored are all other descriptors, by the name they were stored under.
	Stored map[string][]*os.File
}

// Inherit takes over what the service manager passed (sd_listen_fds(3)) and
// removes the variables that announce it, so that it can be called once and no
// child believes that it is meant. Nothing passed is no error.
//
// Sockets and stored descriptors arrive in one list, and a name proves nothing
// about its descriptor. So they are told apart by what they are: a socket that
// accepts connections is a listener, what is no socket at all is a stored
// descriptor. Any other socket is an error, as the unit is then not written for
// this program; everything is closed in that case.
func Inherit() (*Inherited, error) {
	in := &Inherited{Listeners: map[string][]net.Listener{}, Stored: map[string][]*os.File{}}
	files := activation.Files(true)
	// systemd 258 sets it beside LISTEN_PID; go-systemd does not know it yet.
	_ = os.Unsetenv("LISTEN_PIDFDID")

	var errs []error
	for _, f := range files {
		if err := in.add(f); err != nil {
			errs = append(errs, fmt.Errorf("descriptor %q passed by the service manager: %w", f.Name(), err))
			_ = f.Close()
		}
	}
	if len(errs) > 0 {
		return nil, errors.Join(append(errs, in.Close())...)
	}
	return in, nil
}

// add files f under its name, as a listener or as a stored descriptor. It keeps
// f, or a duplicate of it, unless it returns an error.
func (in *Inherited) add(f *os.File) error {
	accepts := 0
	err := control(f, func(fd int) (err error) {
		accepts, err = unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
		return err
	})
	switch {
	case errors.Is(err, unix.ENOTSOCK):
		in.Stored[f.Name()] = append(in.Stored[f.Name()], f)
		return nil
	case err != nil:
		return err
	case accepts == 0:
		return errors.New("is a socket that does not listen for connections")
	}
	listener, err := net.FileListener(f)
	if err != nil {
		return err
	}
	in.Listeners[f.Name()] = append(in.Listeners[f.Name()], listener)
	// FileListener has duplicated it.
	return f.Close()
}

// Close closes all listeners and stored descriptors that are still in the maps.
// The service manager keeps its own copies of both.
func (in *Inherited) Close() error {
	var errs []error
	for _, listeners := range in.Listeners {
		for _, l := range listeners {
			errs = append(errs, l.Close())
		}
	}
	for _, files := range in.Stored {
		for _, f := range files {
			errs = append(errs, f.Close())
		}
	}
	return errors.Join(errs...)
}

// control calls with with f's descriptor. Unlike [os.File.Fd] it leaves the
// descriptor non-blocking, which for a socket is shared with the manager's copy.
func control(f *os.File, with func(fd int) error) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	if err := conn.Control(func(fd uintptr) { inner = with(int(fd)) }); err != nil {
		return err
	}
	return inner
}

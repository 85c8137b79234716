package peer

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/grantexd/grantexd/upstream/clock"
)

// kernel is what is asked of Linux, so that tests can be an older or a newer
// one, or one in which processes come and go at the worst moment.
type kernel interface {
	// credentials is SO_PEERCRED of the socket fd.
	credentials(fd int) (unix.Ucred, error)
	// groups is SO_PEERGROUPS: it fills buf and returns how many there are, or
	// ERANGE and how many there would be.
	groups(fd int, buf []uint32) (int, error)
	// pidfd is SO_PEERPIDFD; the result is closed with close.
	pidfd(fd int) (int, error)
	// pidOf returns which pid the process of pidfd has in /proc: -1 once it is
	// gone, 0 if /proc is of an unrelated pid namespace.
	pidOf(pidfd int) (int, error)
	close(fd int)
	// process opens the directory of pid in /proc.
	process(pid int32) (process, error)
	// self returns which pid /proc gives the daemon itself.
	self() (int, error)
	// overflow returns the ids that stand for unmapped users and groups.
	overflow() (uid, gid uint32)
	// boot is the time since boot, suspended time included.
	boot() time.Duration
}

// process is an open directory /proc/PID. It stays the directory of one
// process: once that is gone, reads fail, whoever has its pid by then.
type process interface {
	ReadFile(name string) ([]byte, error)
	Readlink(name string) (string, error)
	Close() error
}

// linux is the kernel we run on.
type linux struct{}

func (linux) credentials(fd int) (unix.Ucred, error) {
	cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return unix.Ucred{}, err
	}
	return *cred, nil
}

// groups goes to the system call itself, since x/sys has no function for it.
func (linux) groups(fd int, buf []uint32) (int, error) {
	const idSize = uint32(unsafe.Sizeof(uint32(0)))
	size := uint32(len(buf)) * idSize
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_PEERGROUPS,
		uintptr(unsafe.Pointer(unsafe.SliceData(buf))), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return int(size / idSize), errno
	}
	return int(size / idSize), nil
}

func (linux) pidfd(fd int) (int, error) {
	return unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PEERPIDFD)
}

// pidOf reads the Pid line of the descriptor's fdinfo (pidfd_open(2)). Neither
// poll nor pidfd_send_signal would do: a system call filter that answers EPERM
// looks like a living process of somebody else, and neither says which pid the
// process has in the /proc that is mounted here.
func (linux) pidOf(pidfd int) (int, error) {
	b, err := os.ReadFile("/proc/self/fdinfo/" + strconv.Itoa(pidfd))
	if err != nil {
		return 0, err
	}
	return pidLine(b)
}

func pidLine(fdinfo []byte) (int, error) {
	for line := range bytes.Lines(fdinfo) {
		if rest, ok := bytes.CutPrefix(line, []byte("Pid:")); ok {
			return strconv.Atoi(string(bytes.TrimSpace(rest)))
		}
	}
	return 0, fmt.Errorf("no Pid line in fdinfo")
}

func (linux) close(fd int) {
	// Nothing was written to it, so there is nothing that could be lost.
	_ = unix.Close(fd)
}

func (linux) process(pid int32) (process, error) {
	root, err := os.OpenRoot("/proc/" + strconv.Itoa(int(pid)))
	if err != nil {
		return nil, err
	}
	return root, nil
}

func (linux) self() (int, error) {
	s, err := os.Readlink("/proc/self")
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(s)
}

func (linux) overflow() (uid, gid uint32) {
	ids := overflowIDs()
	return ids[0], ids[1]
}

// overflowIDs asks once: the kernel's setting is made at boot, if ever.
var overflowIDs = sync.OnceValue(func() [2]uint32 {
	return [2]uint32{
		readID("/proc/sys/kernel/overflowuid"),
		readID("/proc/sys/kernel/overflowgid"),
	}
})

// readID returns the number in a file, or Overflow where it can't be read:
// hardened services have no /proc/sys.
func readID(path string) uint32 {
	b, err := os.ReadFile(path)
	if err != nil {
		return Overflow
	}
	id, err := strconv.ParseUint(string(bytes.TrimSpace(b)), 10, 32)
	if err != nil {
		return Overflow
	}
	return uint32(id)
}

func (linux) boot() time.Duration { return clock.System{}.Boot() }

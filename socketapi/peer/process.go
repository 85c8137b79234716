package peer

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// settled is for how long a process must have been running before a kernel
// without SO_PEERPIDFD is believed that the process which has the caller's pid
// is the caller. There, a caller may exit while its connection waits to be
// accepted, and somebody else be given its pid; a process older than any such
// wait had the pid before. Connections are accepted at once unless the daemon is
// just starting or stopped, so ten seconds are ample, and short-lived callers
// are no match for a rule on units rather than mistaken for another unit.
const settled = 10 * time.Second

// tick is the unit of times in /proc/PID/stat: USER_HZ is 100 wherever Go runs
// on Linux (proc_pid_stat(5)).
const tick = time.Second / 100

const (
	reasonExited = "the caller's process has exited"
	reasonHidden = "/proc hides other users' processes (hidepid=, ProtectProc=)"
	reasonOther  = "another process has the caller's pid now"
	reasonProc   = "/proc is of another pid namespace than the daemon"
)

// forgetProcess makes everything that comes from /proc unknown.
func (id *Identity) forgetProcess(reason string) {
	id.Executable = Unknown[string](reason)
	id.Unit = Unknown[string](reason)
	id.Container = Unknown[string](reason)
}

// readProcess fills in what /proc says of the caller's process. It reads first
// and looks afterwards whether that process is, or could only have been, the
// one that connected: a check before the reading would prove nothing for the
// time after it.
func (id *Identity) readProcess(k kernel, s onSocket) {
	if s.pidfd < 0 && !errors.Is(s.pidfdErr, unix.ENOPROTOOPT) {
		id.forgetProcess(pidfdReason(s.pidfdErr))
		return
	}
	p, openErr := k.process(s.cred.Pid)
	if openErr == nil {
		defer func() { _ = p.Close() }() // it was only read
		id.Unit, id.Container = readCgroup(p)
		id.Executable = readExecutable(p)
	}
	var reason string
	switch {
	case s.pidfd >= 0:
		reason = verifyByPidfd(k, s, openErr)
	case openErr != nil:
		reason = openReason(openErr)
	default:
		reason = verifyByAge(k, s, p)
	}
	if reason != "" {
		id.forgetProcess(reason)
	}
}

func pidfdReason(err error) string {
	if errors.Is(err, unix.ESRCH) {
		return reasonExited
	}
	return "SO_PEERPIDFD: " + err.Error()
}

func openReason(err error) string {
	if errors.Is(err, fs.ErrNotExist) {
		return reasonExited + ", or " + reasonHidden
	}
	return "/proc: " + cause(err)
}

// verifyByPidfd returns why what was read may not be the caller's, "" if it is.
// The descriptor has been bound to the caller since it connected: if it has the
// pid still, it had it while /proc was read, and nobody else did.
func verifyByPidfd(k kernel, s onSocket, openErr error) string {
	pid, err := k.pidOf(s.pidfd)
	switch {
	case err != nil:
		return "/proc/self/fdinfo: " + cause(err)
	case pid == -1:
		return reasonExited
	case pid != int(s.cred.Pid):
		return reasonProc
	case errors.Is(openErr, fs.ErrNotExist):
		return reasonHidden
	case openErr != nil:
		return "/proc: " + cause(openErr)
	}
	return ""
}

// verifyByAge does the same for kernels before Linux 6.5, as well as it can be
// done there: the process read must have run for long enough to have had the
// pid when the caller connected, and have the caller's user and group.
func verifyByAge(k kernel, s onSocket, p process) string {
	if self, err := k.self(); err != nil || self != os.Getpid() {
		return reasonProc
	}
	stat, err := p.ReadFile("stat")
	if err != nil {
		return reasonExited
	}
	started, err := startTime(stat)
	if err != nil {
		return "/proc/PID/stat: " + cause(err)
	}
	status, err := p.ReadFile("status")
	if err != nil {
		return reasonExited
	}
	uid, okUID := effectiveID(status, "Uid:")
	gid, okGID := effectiveID(status, "Gid:")
	if !okUID || !okGID || uid != s.cred.Uid || gid != s.cred.Gid {
		return reasonOther
	}
	if k.boot()-started < settled {
		return fmt.Sprintf("the process with the caller's pid has run for less than %v, and the kernel can't tell "+
			"whether it is the one that connected (SO_PEERPIDFD came with Linux 6.5)", settled)
	}
	return ""
}

// startTime returns when a process started, since boot (field 22 of
// proc_pid_stat(5)).
func startTime(stat []byte) (time.Duration, error) {
	// The second field is the program's name in parentheses, and may itself
	// hold parentheses and spaces; what follows the last one is numbers.
	end := bytes.LastIndexByte(stat, ')')
	if end < 0 {
		return 0, errors.New("no program name")
	}
	fields := bytes.Fields(stat[end+1:])
	const index = 22 - 3 // fields[0] is the third
	if len(fields) <= index {
		return 0, errors.New("too few fields")
	}
	ticks, err := strconv.ParseInt(string(fields[index]), 10, 64)
	if err != nil || ticks < 0 || ticks > int64(1<<62)/int64(tick) {
		return 0, errors.New("malformed start time")
	}
	return time.Duration(ticks) * tick, nil
}

// effectiveID returns the second number of a line of /proc/PID/status.
func effectiveID(status []byte, name string) (uint32, bool) {
	for line := range bytes.Lines(status) {
		rest, ok := bytes.CutPrefix(line, []byte(name))
		if !ok {
			continue
		}
		fields := bytes.Fields(rest)
		if len(fields) < 2 {
			return 0, false
		}
		id, err := strconv.ParseUint(string(fields[1]), 10, 32)
		return uint32(id), err == nil
	}
	return 0, false
}

func readCgroup(p process) (unit, container Fact[string]) {
	b, err := p.ReadFile("cgroup")
	if err != nil {
		reason := "/proc/PID/cgroup: " + cause(err)
		return Unknown[string](reason), Unknown[string](reason)
	}
	return parseCgroup(b)
}

func readExecutable(p process) Fact[string] {
	path, err := p.Readlink("exe")
	if errors.Is(err, fs.ErrPermission) {
		return Unknown[string]("reading another user's executable needs CAP_SYS_PTRACE")
	}
	if err != nil {
		return Unknown[string]("/proc/PID/exe: " + cause(err))
	}
	return Known(escape(path))
}

// escape makes a name that somebody else chose fit for logs and terminals: what
// is not printable is written as in a Go string, and so is the backslash, so
// that no two names look the same.
func escape(s string) string {
	q := strconv.Quote(s)
	return strings.ReplaceAll(q[1:len(q)-1], `\"`, `"`)
}

// cause leaves out the path of a file error, which would differ for each
// caller.
func cause(err error) string {
	var pathErr *fs.PathError
	if errors.As(err, &pathErr) {
		return pathErr.Err.Error()
	}
	return err.Error()
}

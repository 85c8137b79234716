package socketapi

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// fileIdentity tells a file from another one of the same name.
type fileIdentity struct{ device, inode uint64 }

func identityOf(stat *unix.Stat_t) fileIdentity {
	return fileIdentity{device: stat.Dev, inode: stat.Ino}
}

// remove removes the file at path if it is still the same one.
func (f fileIdentity) remove(path string) {
	var stat unix.Stat_t
	if unix.Lstat(path, &stat) == nil && identityOf(&stat) == f {
		_ = os.Remove(path) // if it stays, the next start finds it stale
	}
}

// lockFile is a file that says by its lock (flock(2)) that a process lives, and
// by its content which. The kernel lets go of it when the process ends, however
// it ends.
type lockFile struct {
	file     *os.File
	identity fileIdentity
}

// acquireLock takes the lock at path. The error wraps [ErrInUse] if another
// process has it.
func acquireLock(path string) (*lockFile, error) {
	for {
		l, err := tryLock(path)
		if l != nil || err != nil {
			return l, err
		}
		// The holder removed the file between our open and our lock.
	}
}

// tryLock returns nil, nil if the file that it locked is no longer at path.
func tryLock(path string) (*lockFile, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, lockOpenError(path, err)
	}
	err = unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		defer func() { _ = file.Close() }()
		return nil, fmt.Errorf("%w: %s holds %s; stop it, or choose another path", ErrInUse, holder(file), path)
	}
	var locked, present unix.Stat_t
	if err == nil {
		err = unix.Fstat(int(file.Fd()), &locked)
	}
	if err != nil {
		_ = file.Close()
		return nil, fmt.Errorf("locking %s: %w", path, err)
	}
	if unix.Lstat(path, &present) != nil || identityOf(&locked) != identityOf(&present) {
		_ = file.Close()
		return nil, nil
	}
	if locked.Mode&unix.S_IFMT != unix.S_IFREG || int(locked.Uid) != os.Geteuid() || locked.Nlink != 1 {
		// It is about to be written to, and could be anybody's file.
		_ = file.Close()
		return nil, fmt.Errorf("%s is no lock that this user made; remove it, or choose another path", path)
	}
	l := &lockFile{file: file, identity: identityOf(&locked)}
	if err := l.sign(path); err != nil {
		l.release()
		return nil, err
	}
	return l, nil
}

// lockOpenError explains what usually is in the way.
func lockOpenError(path string, err error) error {
	info, statErr := os.Lstat(path)
	if statErr == nil && ownerOf(info) != os.Geteuid() {
		return fmt.Errorf("%w: its lock %s belongs to uid %d, another user's daemon: %w", ErrInUse, path, ownerOf(info), err)
	}
	return fmt.Errorf("opening its lock: %w", err)
}

// sign writes the process id into the lock.
func (l *lockFile) sign(path string) error {
	err := l.file.Chmod(0o600) // it may have been there with another mode
	if err == nil {
		err = l.file.Truncate(0)
	}
	if err == nil {
		_, err = l.file.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	if err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return nil
}

// holder names the process that signed the lock.
func holder(file *os.File) string {
	content := make([]byte, 32)
	n, _ := file.ReadAt(content, 0)
	pid, err := strconv.Atoi(strings.TrimSpace(string(content[:n])))
	if err != nil {
		return "another process" // between its lock and its signature
	}
	return "process " + strconv.Itoa(pid)
}

// release removes the lock while it is still held, so that nobody can have taken
// the file that is removed, and lets go of it.
func (l *lockFile) release() {
	l.identity.remove(l.file.Name())
	_ = l.file.Close()
}

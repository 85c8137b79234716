package budget

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// lockTries times lockPause is the longest wait for another process. Who has the
// lock keeps it for some microseconds, so whoever takes longer is stuck.
const (
	lockTries = 100
	lockPause = time.Millisecond
)

// nameTries bounds how often the file may be replaced while it is being opened.
const nameTries = 5

// Why a ledger can't be used, beside the system's own errors.
var (
	errLocked     = errors.New("another process keeps it locked")
	errNotRegular = errors.New("it is not a regular file")
	errReplaced   = errors.New("it is being replaced again and again")
)

// ledgerFile is a ledger in a file under flock(2). The file is never renamed nor
// truncated: an instance of another user may be allowed to write the file, but
// not its directory.
type ledgerFile struct{ path string }

// update implements [ledger].
func (l ledgerFile) update(patience bool, decide func([]byte, bool, func([]byte) error) error) error {
	tries := 1
	if patience {
		tries = lockTries
	}
	f, created, err := l.openLocked(&tries)
	if err != nil {
		return fmt.Errorf("ledger %s: %w", l.path, err)
	}
	defer func() { _ = f.Close() }() // unlocks; what was written is in the kernel already
	content, err := readRecord(f)
	if err != nil {
		return fmt.Errorf("ledger %s: %w", l.path, err)
	}
	created = created && len(content) == 0 // else another instance was first
	saved := false
	err = decide(content, created, func(content []byte) error {
		if _, err := f.WriteAt(content, 0); err != nil {
			return fmt.Errorf("ledger %s: %w", l.path, plain(err))
		}
		saved = true
		return nil
	})
	if created && !saved {
		// Left behind empty, it would count as full.
		return errors.Join(err, os.Remove(l.path))
	}
	return err
}

// openLocked opens and locks the file, and makes it if there is none. It uses up
// tries, one for each look at a file that is not ready.
func (l ledgerFile) openLocked(tries *int) (f *os.File, created bool, err error) {
	for range nameTries {
		if f, created, err = l.open(); err != nil {
			return nil, false, err
		}
		ready, err := l.lock(f, created, tries)
		if err != nil {
			return nil, false, errors.Join(err, f.Close())
		}
		if ready {
			return f, created, nil
		}
		_ = f.Close()
	}
	return nil, false, errReplaced
}

// lock locks the file and reports whether it still has its name: who held the
// lock before may have removed it.
func (l ledgerFile) lock(f *os.File, created bool, tries *int) (ready bool, err error) {
	for ; ; *tries-- {
		if err := flock(f, unix.LOCK_EX|unix.LOCK_NB); err == nil {
			named, size, err := l.named(f)
			// A file that is empty, but not ours, belongs to someone who
			// is about to write it for the first time.
			if err != nil || !named || size > 0 || created || *tries <= 1 {
				return named, err
			}
			if err := flock(f, unix.LOCK_UN); err != nil {
				return false, err
			}
		} else if !errors.Is(err, unix.EWOULDBLOCK) {
			return false, fmt.Errorf("locking it: %w", err)
		} else if *tries <= 1 {
			return false, errLocked
		}
		// Not time.Sleep: the time is another process's, which virtual time
		// in a test knows nothing of.
		pause := unix.NsecToTimespec(int64(lockPause))
		_ = unix.Nanosleep(&pause, nil)
	}
}

// named reports whether the open file is still the one that the path names.
func (l ledgerFile) named(f *os.File) (named bool, size int64, err error) {
	open, err := f.Stat()
	if err != nil {
		return false, 0, err
	}
	now, err := os.Lstat(l.path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, 0, nil
	}
	if err != nil {
		return false, 0, err
	}
	return os.SameFile(open, now), open.Size(), nil
}

// open opens the file, or makes it. O_NOFOLLOW keeps a symlink from leading us
// elsewhere, O_NONBLOCK a device or a lease from hanging us.
func (l ledgerFile) open() (f *os.File, created bool, err error) {
	const flags = os.O_RDWR | unix.O_NOFOLLOW | unix.O_NONBLOCK
	for range nameTries {
		f, err = os.OpenFile(l.path, flags, 0)
		if err == nil {
			return f, false, regular(f)
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return nil, false, plain(err)
		}
		f, err = os.OpenFile(l.path, flags|os.O_CREATE|os.O_EXCL, 0o600)
		if err == nil {
			return f, true, l.share(f)
		}
		if !errors.Is(err, fs.ErrExist) {
			return nil, false, plain(err)
		}
	}
	return nil, false, errReplaced
}

// share gives a new ledger its mode: 0600, or 0660 in a directory that is made
// for sharing, setgid and writable for its group.
func (l ledgerFile) share(f *os.File) error {
	mode := fs.FileMode(0o600)
	dir, err := os.Stat(filepath.Dir(l.path))
	if err == nil && dir.Mode()&fs.ModeSetgid != 0 && dir.Mode().Perm()&0o020 != 0 {
		mode = 0o660
	}
	if err := f.Chmod(mode); err != nil { // whatever the umask left of it
		return errors.Join(plain(err), f.Close(), os.Remove(l.path))
	}
	return nil
}

// regular closes what is no regular file, and says so.
func regular(f *os.File) error {
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errNotRegular
	}
	if err != nil {
		return errors.Join(err, f.Close())
	}
	return nil
}

// readRecord reads the part of the file that can be a record: what was once
// longer garbage is not cut off when it is overwritten.
func readRecord(f *os.File) ([]byte, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, plain(err)
	}
	content := make([]byte, min(info.Size(), maxRecord))
	n, err := f.ReadAt(content, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, plain(err)
	}
	return content[:n], nil
}

// flock calls flock(2) without taking the file from Go's poller.
func flock(f *os.File, how int) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var locked error
	err = conn.Control(func(fd uintptr) {
		for {
			if locked = unix.Flock(int(fd), how); !errors.Is(locked, unix.EINTR) {
				return
			}
		}
	})
	return errors.Join(err, locked)
}

// plain takes the path from an error, since ours name it once already.
func plain(err error) error {
	var at *fs.PathError
	if errors.As(err, &at) {
		return at.Err
	}
	return err
}

// advice says what to do about a ledger that can't be used.
func advice(err error) string {
	switch {
	case errors.Is(err, errLocked):
		return "end the process that keeps the file locked; lslocks(8) names it"
	case errors.Is(err, errNotRegular), errors.Is(err, unix.ELOOP), errors.Is(err, unix.EISDIR):
		return "remove what stands in the ledger's place, or name another file"
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENOTDIR):
		return "create the directory, writable for this user"
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return "give this user the right to write the file and its directory, or name another file"
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return "free some space: the ledger needs 4 KiB"
	}
	return "give the ledger a regular file on a local file system"
}

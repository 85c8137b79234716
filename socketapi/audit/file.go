package audit

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// file is a file that whole lines are appended to. It is not safe for concurrent
// use. The zero value with a path is closed, and is opened by the next Write.
type file struct {
	path   string
	logger *slog.Logger

	open   target
	torn   bool // the last line was cut short
	closed bool // for good
}

// target is what is needed of an *os.File.
type target interface {
	Write(p []byte) (int, error)
	Close() error
}

// Write appends a line with one call of write(2), so that others who append to
// the same file don't come between.
func (f *file) Write(line []byte) (int, error) {
	if f.open == nil {
		if err := f.reopen(); err != nil {
			return 0, err
		}
	}
	p := line
	if f.torn {
		// What a full disk has left of a line must not spoil the next one.
		p = append([]byte{'\n'}, line...)
	}
	n, err := f.open.Write(p)
	if n > 0 {
		f.torn = n < len(p)
	}
	if err != nil {
		return 0, err
	}
	return len(line), nil
}

// reopen opens the path, and leaves everything as it is if that fails.
func (f *file) reopen() error {
	if f.closed {
		return os.ErrClosed
	}
	opened, err := f.openPath()
	if err != nil {
		return err
	}
	old := f.open
	f.open, f.torn = opened, false
	if old == nil {
		return nil
	}
	if err := old.Close(); err != nil {
		f.logger.Error("audit file that was rotated away could not be closed; its last lines may be missing", "error", err)
	}
	return nil
}

func (f *file) close() error {
	f.closed = true
	if f.open == nil {
		return nil
	}
	err := f.open.Close()
	f.open = nil
	return err
}

// openPath opens the file, or makes it. It refuses what somebody who can write
// the directory might have put there to have the lines end up elsewhere.
func (f *file) openPath() (*os.File, error) {
	// O_NONBLOCK, for opening a FIFO would wait for a reader. It means nothing
	// to a regular file.
	const flags = os.O_WRONLY | os.O_APPEND | os.O_CREATE | unix.O_NOFOLLOW | unix.O_NONBLOCK
	opened, err := os.OpenFile(f.path, flags, 0o600)
	if errors.Is(err, unix.ELOOP) {
		return nil, fmt.Errorf("%s is a symbolic link: name the file itself", f.path)
	}
	if err != nil {
		return nil, err
	}
	if err := f.inspect(opened); err != nil {
		_ = opened.Close() // nothing was written to it
		return nil, err
	}
	return opened, nil
}

func (f *file) inspect(opened *os.File) error {
	info, err := opened.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is not a regular file", f.path)
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && st.Uid != 0 && int64(st.Uid) != int64(os.Geteuid()) {
		return fmt.Errorf("%s belongs to uid %d, who could change what is in it", f.path, st.Uid)
	}
	if info.Mode().Perm()&0o027 != 0 {
		f.logger.Warn("audit file is open to others than its owner and readers in its group; chmod 0600 or 0640 it",
			"path", f.path, "mode", fmt.Sprintf("%04o", info.Mode().Perm()))
	}
	return nil
}

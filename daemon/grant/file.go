package grant

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
	"time"

	"github.com/grantexd/grantexd/upstream/clock"
)

// A reading is what the grant file was found to hold at one moment.
type reading struct {
	kind kind
	// grant is the token, nil unless kind is present.
	grant *Grant
	// fault says why there is no token, unless kind is present.
	fault string
	// exposure says who else can read the file, "" if nobody can.
	exposure string
	// content is the SHA-256 of what was read, to tell a file that is being
	// written from a finished one.
	content [sha256.Size]byte
	// age is the time since content or inode were last changed, by the wall
	// clock and the file system's; 0 if it isn't known.
	age time.Duration
}

// kind is the kind of a [reading].
type kind int

const (
	// missing means that there certainly is no file.
	missing kind = iota
	// faulty means that the file has no usable token, or can't be read. Of a
	// file that can't be read nobody knows whether it is gone.
	faulty
	// present means a well-formed token.
	present
)

// same reports whether r and o found the same.
func (r reading) same(o reading) bool {
	return r.kind == o.kind && r.fault == o.fault && r.exposure == o.exposure && r.content == o.content
}

// file reads a grant file.
type file struct {
	path  string
	clock clock.Clock
	// open opens the file; tests replace it where root can't be refused.
	open func(path string) (*os.File, error)
}

// read reads the file once. It blocks only where the file system hangs.
func (f file) read() reading {
	content, info, err := f.load()
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
		return reading{kind: missing, fault: "does not exist: put the grant token there"}
	case errors.Is(err, fs.ErrPermission):
		return reading{kind: faulty, fault: f.denied()}
	case err != nil:
		return reading{kind: faulty, fault: describe(err)}
	}
	r := reading{kind: present, content: sha256.Sum256(content), age: f.age(info)}
	if r.grant, err = Parse(content); err != nil {
		r.kind, r.fault = faulty, err.Error()
		return r
	}
	r.exposure = exposure(f.path, info)
	return r
}

// denied says that the file can't be read and what to do. Whoever owns it is
// refused because of the owner's own permissions, which no group makes up for.
func (f file) denied() string {
	uid := os.Geteuid()
	advice := "let its group read it (chgrp, chmod 0640) and enter the directories above"
	if info, err := os.Stat(f.path); err == nil {
		if st, ok := info.Sys().(*syscall.Stat_t); ok && int(st.Uid) == uid {
			advice = "that user owns it, so run chmod 0600 " + f.path
		}
	}
	return fmt.Sprintf("permission denied for uid %d: %s", uid, advice)
}

// load returns what the file holds, at most one byte more than may be.
func (f file) load() ([]byte, fs.FileInfo, error) {
	file, err := f.open(f.path)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = file.Close() }() // nothing was written
	info, err := file.Stat()
	if err != nil {
		return nil, nil, err
	}
	content, err := io.ReadAll(io.LimitReader(file, MaxFileSize+1))
	return content, info, err
}

// age returns the time since the last change of content and inode. The change
// time can't be set by programs, so a file that was written in place and got an
// old modification time back is not taken for an old one.
func (f file) age(info fs.FileInfo) time.Duration {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0
	}
	changed := time.Unix(st.Ctim.Unix())
	if info.ModTime().After(changed) {
		changed = info.ModTime()
	}
	return max(0, f.clock.Now().Sub(changed))
}

// errNotRegular says what is in the place of the file.
type errNotRegular struct{ mode fs.FileMode }

// Error says what it is and what should be there.
func (e errNotRegular) Error() string {
	what := "not a regular file"
	switch {
	case e.mode.IsDir():
		what = "a directory"
	case e.mode&fs.ModeNamedPipe != 0:
		what = "a named pipe"
	case e.mode&fs.ModeSocket != 0:
		what = "a socket"
	case e.mode&fs.ModeDevice != 0:
		what = "a device"
	}
	return what + ": the grant token must be in a regular file"
}

// openRegular opens the file that path leads to if it is a regular one. It looks
// before it opens, since opening a device can have effects, and once more
// afterwards, since it may have been replaced. It never waits for a pipe's writer.
func openRegular(path string) (*os.File, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errNotRegular{info.Mode()}
	}
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOCTTY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	info, err = f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errNotRegular{info.Mode()}
	}
	if err != nil {
		_ = f.Close() // nothing was written
		return nil, err
	}
	return f, nil
}

// describe puts an error of reading the file in words. The path is named by
// whoever shows them.
func describe(err error) string {
	var irregular errNotRegular
	if errors.As(err, &irregular) {
		return irregular.Error()
	}
	var inner *fs.PathError
	if errors.As(err, &inner) {
		err = inner.Err
	}
	return "can't be read: " + err.Error()
}

package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/grantexd/grantexd/upstream/secret"
)

// maxSecret bounds what is read as a secret: above any token that could be sent.
const maxSecret = 64 << 10

// readSecret reads a secret from a file, or from standard input if path is "-",
// without the line break at its end. what names it in errors, which never hold
// any of it.
func (a *app) readSecret(path, what string) (secret.Text, error) {
	content, err := a.readAll(path, what)
	if err != nil {
		return secret.Text{}, withExit(exitUsage, fmt.Errorf("%s: %w", what, err))
	}
	text := strings.TrimRight(string(content), "\r\n")
	switch {
	case len(content) > maxSecret:
		return secret.Text{}, usagef("%s: it has more than %d KiB: is it the right file?", what, maxSecret>>10)
	case strings.TrimSpace(text) == "":
		return secret.Text{}, usagef("%s: there is nothing in it", what)
	}
	return secret.New(text), nil
}

func (a *app) readAll(path, what string) ([]byte, error) {
	in := a.in
	if path != "-" {
		// Opening a FIFO waits for its writer, as in <(…) of a shell.
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		defer func() { _ = f.Close() }()
		a.warnOfReaders(f, what)
		in = f
	} else if isTerminal(a.in) {
		return nil, errors.New("standard input is a terminal, which would show what is typed: use a file or a pipe")
	}
	return io.ReadAll(io.LimitReader(in, maxSecret+1))
}

// othersMayRead is the permission of those who are neither owner nor in the
// group: a group may be there to share the secret.
const othersMayRead fs.FileMode = 0o004

// warnOfReaders warns of a file that holds a secret and whose mode lets everybody
// read it. Pipes, as in <(…) of a shell, have no mode that matters.
func (a *app) warnOfReaders(f *os.File, what string) {
	info, err := f.Stat()
	if err == nil && info.Mode().IsRegular() && info.Mode()&othersMayRead != 0 {
		a.warnf("%s: the mode of %s (%04o) lets other users read it: chmod o= it", what, plain(f.Name()), info.Mode().Perm())
	}
}

// createSecret writes a new file that only its owner can read. It never touches
// one that is there.
func createSecret(path string, content []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return nil
}

// replaceSecret puts a file that only its owner can read in the place of path, in
// one step, so that whoever watches it never sees half of it.
func replaceSecret(path string, content []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*") // made 0600
	if err != nil {
		return err
	}
	_, err = io.Copy(f, bytes.NewReader(content))
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, ignoreMissing(os.Remove(f.Name())))
	}
	return nil
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

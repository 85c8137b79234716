package devvault

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

const (
	// keyBytes is the length of the data file's key: AES-256.
	keyBytes = 32
	// credentialName is the key's name among systemd's credentials.
	credentialName = "devvault.key"
	// Modes that a key file must not have. systemd may let a group read its
	// credentials; in the directory that it makes, nobody else gets there.
	otherUsers  = 0o077
	otherGroups = 0o007
)

// keyPlace is where the key of a data file is.
type keyPlace struct {
	path string
	// forbidden are the permission bits that the file must not have.
	forbidden fs.FileMode
	// creatable is true for the file beside the data file.
	creatable bool
}

func (o Options) keyPlace() keyPlace {
	if o.KeyFile != "" {
		return keyPlace{path: o.KeyFile, forbidden: otherUsers}
	}
	if o.CredentialsDir != "" {
		path := filepath.Join(o.CredentialsDir, credentialName)
		// Anything but "not there" is for readKey to complain about.
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			return keyPlace{path: path, forbidden: otherGroups}
		}
	}
	return keyPlace{path: o.DataFile + ".key", forbidden: otherUsers, creatable: true}
}

// read reads the key: 32 bytes, or 64 hex digits with white space around them.
// Its errors never quote the file.
func (p keyPlace) read() (key [keyBytes]byte, err error) {
	// No link, since the key decides who reads the vault; and no waiting for
	// the other end of a FIFO.
	f, err := os.OpenFile(p.path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, unix.ELOOP) {
		return key, fmt.Errorf("key file %s is a symbolic link: name the file itself", p.path)
	}
	if err != nil {
		return key, fmt.Errorf("key file: %w", err)
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	switch {
	case err != nil:
		return key, fmt.Errorf("key file: %w", err)
	case !info.Mode().IsRegular():
		return key, fmt.Errorf("key file %s is not a regular file", p.path)
	case info.Mode().Perm()&p.forbidden != 0:
		return key, fmt.Errorf("key file %s has mode %04o: others can read it; chmod 600 it", p.path, info.Mode().Perm())
	}
	const most = 1024 // more than any key with white space around it
	text, err := io.ReadAll(io.LimitReader(f, most))
	if err != nil {
		return key, fmt.Errorf("key file: %w", err)
	}
	if len(text) != keyBytes {
		text = bytes.TrimSpace(text)
		n, err := hex.Decode(text, text)
		if err != nil || n != keyBytes {
			return key, fmt.Errorf("key file %s holds no key: %d bytes or %d hex digits are expected",
				p.path, keyBytes, 2*keyBytes)
		}
		text = text[:n]
	}
	copy(key[:], text)
	return key, nil
}

// create makes a new key, 0600, unless another process was faster.
func (p keyPlace) create() error {
	var key [keyBytes]byte
	randomBytes(key[:])
	err := publish(p.path, func(f *os.File) error {
		_, err := fmt.Fprintln(f, hex.EncodeToString(key[:]))
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("making the key file: %w", err)
	}
	return nil
}

// publish makes the file path, 0600, with what write writes, whole or not at
// all, whenever the process may be killed. It returns [fs.ErrExist] if there is
// such a file already.
func publish(path string, write func(*os.File) error) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*.new") // 0600
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }() // a link of it stays
	err = write(f)
	if err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	// A link is never made over a file that is there, as a rename would be.
	if err := os.Link(f.Name(), path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = dir.Close() }()
	return dir.Sync()
}

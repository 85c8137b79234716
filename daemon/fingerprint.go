package daemon

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/grantexd/grantexd/upstream/secret"
)

const (
	fingerprintKeyFile = "fingerprint.key"
	fingerprintKeySize = sha256.Size
	// fingerprintBytes of the HMAC are shown: enough that two tokens never
	// share one by chance.
	fingerprintBytes = 12
)

// fingerprinter names tokens without giving them away: an HMAC under a key that
// stays on this host, since a plain hash of a weak password could be guessed from
// a log.
type fingerprinter struct{ key []byte }

// Fingerprint returns the name of a token.
func (f fingerprinter) Fingerprint(token secret.Text) string {
	mac := hmac.New(sha256.New, f.key)
	mac.Write([]byte(token.Reveal()))
	return hex.EncodeToString(mac.Sum(nil)[:fingerprintBytes])
}

// newFingerprinter reads the key from the state directory, or makes it there, so
// that a token keeps its name over restarts. If the directory can't be used, the
// key lasts as long as the process, and the error says why.
func newFingerprinter(stateDir string) (fingerprinter, error) {
	fresh := make([]byte, fingerprintKeySize)
	if _, err := rand.Read(fresh); err != nil {
		return fingerprinter{}, err // never: crypto/rand panics first
	}
	key, err := loadOrCreateKey(filepath.Join(stateDir, fingerprintKeyFile), fresh)
	if err != nil {
		return fingerprinter{key: fresh}, fmt.Errorf("fingerprint key: %w", err)
	}
	return fingerprinter{key: key}, nil
}

// loadOrCreateKey returns the key in the file, creating it with fresh if there is
// none. A file that is no key is left alone: it may be somebody else's.
func loadOrCreateKey(path string, fresh []byte) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return fresh, createKey(path, fresh)
	}
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // nothing was written
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() != fingerprintKeySize {
		return nil, fmt.Errorf("%s is not a key of %d bytes; remove it to have a new one made", path, fingerprintKeySize)
	}
	key := make([]byte, fingerprintKeySize)
	if _, err := f.ReadAt(key, 0); err != nil {
		return nil, err
	}
	return key, nil
}

// createKey writes key to a new file, whole or not at all.
func createKey(path string, key []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), fingerprintKeyFile+".*") // mode 0600
	if err != nil {
		// The random name would only puzzle.
		var inner *fs.PathError
		if errors.As(err, &inner) {
			err = inner.Err
		}
		return fmt.Errorf("creating %s: %w", path, err)
	}
	_, err = f.Write(key)
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

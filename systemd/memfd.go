package systemd

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// MaxSealed is the most bytes that one sealed memfd may hold: 1,024 services
// with an answer of 16 KiB each, far above what tokens need. It keeps a damaged
// hand-over from filling the memory of the process that reads it.
const MaxSealed = 16 << 20

// seals forbid every change of a memfd: its content, its size, and the seals
// themselves (fcntl(2), "File Sealing").
const seals = unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE

var (
	// ErrTooLarge says that content exceeds [MaxSealed].
	ErrTooLarge = errors.New("more than a sealed memfd may hold")
	// ErrNotSealed says that a descriptor is no memfd, or one that could
	// still be changed while it is read.
	ErrNotSealed = errors.New("not a sealed memfd")
)

// SealedMemfd returns anonymous memory that holds content and can never be
// changed again (memfd_create(2)). It is in no file system; the name only shows
// in /proc/PID/fd. Secrets may be in it, as far as the machine does not swap:
// the unit forbids that. The file is the caller's to close.
//
// It returns [ErrTooLarge] for more than [MaxSealed] bytes.
func SealedMemfd(name string, content []byte) (*os.File, error) {
	if len(content) > MaxSealed {
		return nil, fmt.Errorf("memfd %s: %d bytes: %w", name, len(content), ErrTooLarge)
	}
	fd, err := createMemfd(name)
	if err != nil {
		return nil, fmt.Errorf("memfd_create %s: %w", name, err)
	}
	f := os.NewFile(uintptr(fd), name)
	if err := fill(f, content); err != nil {
		return nil, errors.Join(fmt.Errorf("memfd %s: %w", name, err), f.Close())
	}
	return f, nil
}

// createMemfd asks for memory that can never be made executable, which Linux
// knows since 6.3 and older kernels refuse.
func createMemfd(name string) (int, error) {
	const flags = unix.MFD_CLOEXEC | unix.MFD_ALLOW_SEALING
	fd, err := unix.MemfdCreate(name, flags|unix.MFD_NOEXEC_SEAL)
	if errors.Is(err, unix.EINVAL) {
		fd, err = unix.MemfdCreate(name, flags)
	}
	return fd, err
}

func fill(f *os.File, content []byte) error {
	// A memfd is born 0777 or 0666. Only who may trace this process can open
	// it by way of /proc, but that is no reason to invite them.
	if err := f.Chmod(0o600); err != nil {
		return err
	}
	if _, err := f.WriteAt(content, 0); err != nil {
		return err
	}
	return control(f, func(fd int) error {
		_, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals)
		return err
	})
}

// ReadSealed returns the content of a memfd made by [SealedMemfd], wherever its
// offset stands. It returns [ErrNotSealed] for anything else, since content that
// may change while it is checked has not been checked, and [ErrTooLarge] for
// more than [MaxSealed] bytes. f stays open.
func ReadSealed(f *os.File) ([]byte, error) {
	var held int
	err := control(f, func(fd int) (err error) {
		held, err = unix.FcntlInt(uintptr(fd), unix.F_GET_SEALS, 0)
		return err
	})
	if errors.Is(err, unix.EINVAL) || err == nil && held&seals != seals {
		return nil, ErrNotSealed
	}
	if err != nil {
		return nil, fmt.Errorf("read seals: %w", err)
	}
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.Size() > MaxSealed {
		return nil, fmt.Errorf("%d bytes: %w", info.Size(), ErrTooLarge)
	}
	content := make([]byte, info.Size())
	if _, err := f.ReadAt(content, 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return content, nil
}

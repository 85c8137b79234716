package systemd

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func TestSealedMemfdGivesItsContentBack(t *testing.T) {
	tests := []struct {
		name    string
		content []byte
	}{
		{"nothing", []byte{}},
		{"a byte", []byte("x")},
		{"more than a page", []byte(strings.Repeat("0123456789", 1000))},
		{"as much as may be", make([]byte, MaxSealed)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f, err := SealedMemfd("test", tt.content)
			require.NoError(t, err)
			defer func() { require.NoError(t, f.Close()) }()
			for range 2 {
				got, err := ReadSealed(f)
				require.NoError(t, err)
				require.Equal(t, tt.content, got)
			}
		})
	}
}

func TestSealedMemfdCannotBeChanged(t *testing.T) {
	f, err := SealedMemfd("test", []byte("content"))
	require.NoError(t, err)
	defer func() { require.NoError(t, f.Close()) }()

	_, err = f.WriteAt([]byte("C"), 0)
	require.ErrorIs(t, err, unix.EPERM, "write")
	require.ErrorIs(t, f.Truncate(1), unix.EPERM, "shrink")
	require.ErrorIs(t, f.Truncate(100), unix.EPERM, "grow")
	_, err = unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, unix.F_SEAL_FUTURE_WRITE)
	require.ErrorIs(t, err, unix.EPERM, "more seals")
	_, err = unix.Mmap(int(f.Fd()), 0, 7, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	require.ErrorIs(t, err, unix.EPERM, "map for writing")
}

func TestSealedMemfdIsPrivate(t *testing.T) {
	f, err := SealedMemfd("test", []byte("content"))
	require.NoError(t, err)
	defer func() { require.NoError(t, f.Close()) }()

	info, err := f.Stat()
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFD, 0)
	require.NoError(t, err)
	require.NotZero(t, flags&unix.FD_CLOEXEC, "no child may inherit it")
}

func TestTooMuchIsRefused(t *testing.T) {
	_, err := SealedMemfd("test", make([]byte, MaxSealed+1))
	require.ErrorIs(t, err, ErrTooLarge)

	tests := []struct {
		name string
		size int64
		want error
	}{
		{"at the bound", MaxSealed, nil},
		{"a byte more", MaxSealed + 1, ErrTooLarge},
		{"a size that no machine has", 1 << 50, ErrTooLarge},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := sparseMemfd(t, tt.size, seals)
			_, err := ReadSealed(f)
			require.ErrorIs(t, err, tt.want)
		})
	}
}

func TestReadSealedRefusesWhatCouldChange(t *testing.T) {
	regular, err := os.Create(filepath.Join(t.TempDir(), "file"))
	require.NoError(t, err)
	defer func() { require.NoError(t, regular.Close()) }()
	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer func() { require.NoError(t, r.Close()); require.NoError(t, w.Close()) }()

	files := map[string]*os.File{
		"a regular file":    regular,
		"a pipe":            r,
		"an unsealed memfd": sparseMemfd(t, 10, 0),
	}
	for _, missing := range []int{unix.F_SEAL_SEAL, unix.F_SEAL_SHRINK, unix.F_SEAL_GROW, unix.F_SEAL_WRITE} {
		files[fmt.Sprintf("a memfd without seal %#x", missing)] = sparseMemfd(t, 10, seals&^missing)
	}
	for name, f := range files {
		t.Run(name, func(t *testing.T) {
			content, err := ReadSealed(f)
			require.ErrorIs(t, err, ErrNotSealed)
			require.Nil(t, content)
		})
	}

	closed := sparseMemfd(t, 1, seals)
	require.NoError(t, closed.Close())
	_, err = ReadSealed(closed)
	require.ErrorContains(t, err, "closed")
}

// sparseMemfd returns a memfd of size zeros which takes no memory.
func sparseMemfd(t *testing.T, size int64, seal int) *os.File {
	t.Helper()
	fd, err := unix.MemfdCreate("sparse", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	require.NoError(t, err)
	f := os.NewFile(uintptr(fd), "sparse")
	t.Cleanup(func() { _ = f.Close() })
	require.NoError(t, f.Truncate(size))
	_, err = unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, seal)
	require.NoError(t, err)
	return f
}

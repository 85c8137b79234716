package budget

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// put is a decide function that saves content.
func put(content []byte) func([]byte, bool, func([]byte) error) error {
	return func(_ []byte, _ bool, save func([]byte) error) error { return save(content) }
}

// see returns what update hands to decide, and its error.
func see(l ledger) (content []byte, created bool, err error) {
	err = l.update(true, func(c []byte, isNew bool, save func([]byte) error) error {
		content, created = c, isNew
		if isNew {
			return save([]byte("new"))
		}
		return nil
	})
	return content, created, err
}

func TestLedgerFileKeepsContent(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger")
	l := ledgerFile{path}
	_, created, err := see(l)
	require.NoError(t, err)
	require.True(t, created)
	require.NoError(t, l.update(true, put([]byte("second, longer"))))
	content, created, err := see(l)
	require.NoError(t, err)
	require.False(t, created)
	require.Equal(t, "second, longer", string(content))
}

func TestLedgerFileMode(t *testing.T) {
	tests := []struct {
		name string
		dir  os.FileMode
		want os.FileMode
	}{
		{"private", 0o700, 0o600},
		{"writable for the group", 0o770, 0o600},
		{"setgid only", 0o750 | os.ModeSetgid, 0o600},
		{"made for sharing", 0o770 | os.ModeSetgid, 0o660},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "d")
			require.NoError(t, os.Mkdir(dir, 0o700))
			require.NoError(t, os.Chmod(dir, tt.dir))
			defer unix.Umask(unix.Umask(0o077))
			l := ledgerFile{filepath.Join(dir, "ledger")}
			_, _, err := see(l)
			require.NoError(t, err)
			info, err := os.Stat(l.path)
			require.NoError(t, err)
			require.Equal(t, tt.want, info.Mode().Perm())
		})
	}
}

func TestLedgerFileRefuses(t *testing.T) {
	tests := []struct {
		name   string
		path   func(dir string) string
		want   error
		advice string
	}{
		{"a directory in its place", func(dir string) string {
			return dir
		}, unix.EISDIR, "remove what stands"},
		{"a symlink", func(dir string) string {
			path := filepath.Join(dir, "link")
			require.NoError(t, os.WriteFile(filepath.Join(dir, "target"), nil, 0o600))
			require.NoError(t, os.Symlink("target", path))
			return path
		}, unix.ELOOP, "remove what stands"},
		{"a symlink to nothing", func(dir string) string {
			path := filepath.Join(dir, "link")
			require.NoError(t, os.Symlink("nothing", path))
			return path
		}, unix.ELOOP, "remove what stands"},
		{"a FIFO, without waiting for its other end", func(dir string) string {
			path := filepath.Join(dir, "fifo")
			require.NoError(t, unix.Mkfifo(path, 0o600))
			return path
		}, errNotRegular, "remove what stands"},
		{"no directory", func(dir string) string {
			return filepath.Join(dir, "missing", "ledger")
		}, os.ErrNotExist, "create the directory"},
		{"a file as directory", func(dir string) string {
			path := filepath.Join(dir, "file")
			require.NoError(t, os.WriteFile(path, nil, 0o600))
			return filepath.Join(path, "ledger")
		}, unix.ENOTDIR, "create the directory"},
		{"the pseudo file system of the kernel", func(string) string {
			return "/proc/grantexd-ledger"
		}, os.ErrNotExist, "create the directory"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := tt.path(t.TempDir())
			_, _, err := see(ledgerFile{path})
			require.ErrorIs(t, err, tt.want)
			require.ErrorContains(t, err, path)
			require.Contains(t, advice(err), tt.advice)
		})
	}
}

func TestAdvice(t *testing.T) {
	for err, want := range map[error]string{
		errLocked:          "lslocks",
		syscall.EACCES:     "right to write",
		syscall.EROFS:      "right to write",
		syscall.ENOSPC:     "free some space",
		syscall.EIO:        "local file system",
		errors.New("else"): "local file system",
	} {
		require.Contains(t, advice(err), want, "%v", err)
	}
}

func TestLedgerFileWithoutPermission(t *testing.T) {
	if os.Getuid() == 0 {
		t.Skip("root may write everything")
	}
	dir := t.TempDir()
	require.NoError(t, os.Chmod(dir, 0o500))
	_, _, err := see(ledgerFile{filepath.Join(dir, "ledger")})
	require.ErrorIs(t, err, os.ErrPermission)
}

func TestLedgerFileOnFullDisk(t *testing.T) {
	// RLIMIT_FSIZE makes write(2) fail as a full disk does, for a process of its own.
	path := filepath.Join(t.TempDir(), "ledger")
	out, err := helper(t, "full", path).CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Contains(t, string(out), "file too large")
	require.NoFileExists(t, path, "an empty one would count as full")
}

func TestLedgerFileLockedElsewhere(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger")
	require.NoError(t, os.WriteFile(path, []byte("theirs"), 0o600))
	f, err := os.Open(path)
	require.NoError(t, err)
	defer func() { _ = f.Close() }()
	require.NoError(t, flock(f, unix.LOCK_EX))

	begun := time.Now()
	_, _, err = see(ledgerFile{path})
	require.ErrorIs(t, err, errLocked)
	require.Less(t, time.Since(begun), 5*time.Second, "never hangs")
	begun = time.Now()
	err = ledgerFile{path}.update(false, put(nil))
	require.ErrorIs(t, err, errLocked)
	require.Less(t, time.Since(begun), time.Second, "without patience, at once")

	require.NoError(t, flock(f, unix.LOCK_UN))
	content, _, err := see(ledgerFile{path})
	require.NoError(t, err)
	require.Equal(t, "theirs", string(content))
}

func TestLedgerFileWaitsForAShortLock(t *testing.T) {
	l := ledgerFile{filepath.Join(t.TempDir(), "ledger")}
	var wg sync.WaitGroup
	total := 0 // guarded by the ledger's lock
	for range 8 {
		wg.Go(func() {
			for range 50 {
				err := l.update(true, func(content []byte, created bool, save func([]byte) error) error {
					if !created && len(content) != total {
						t.Errorf("%d bytes after %d updates", len(content), total)
					}
					total++
					return save(bytes.Repeat([]byte("x"), total))
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	require.Equal(t, 400, total)
}

func TestLedgerFileIsMadeOnce(t *testing.T) {
	for range 50 {
		l := ledgerFile{filepath.Join(t.TempDir(), "ledger")}
		var wg sync.WaitGroup
		made, last := 0, 0 // guarded by the ledger's lock
		for range 4 {
			wg.Go(func() {
				err := l.update(true, func(content []byte, created bool, save func([]byte) error) error {
					if created {
						made++
					}
					last = len(content) + 1
					return save(append(content, 'x'))
				})
				if err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		require.Equal(t, 1, made)
		require.Equal(t, 4, last, "none was lost")
	}
}

func TestLedgerFileReplacedWhileLocked(t *testing.T) {
	dir := t.TempDir()
	l := ledgerFile{filepath.Join(dir, "ledger")}
	require.NoError(t, os.WriteFile(l.path, []byte("old"), 0o600))
	old, err := os.Open(l.path)
	require.NoError(t, err)
	defer func() { _ = old.Close() }()

	named, _, err := l.named(old)
	require.NoError(t, err)
	require.True(t, named)
	require.NoError(t, os.Remove(l.path))
	named, _, err = l.named(old)
	require.NoError(t, err)
	require.False(t, named, "removed")
	require.NoError(t, os.WriteFile(l.path, []byte("new"), 0o600))
	tries := lockTries
	ready, err := l.lock(old, false, &tries)
	require.NoError(t, err)
	require.False(t, ready, "another file has its name now")
	content, _, err := see(l)
	require.NoError(t, err)
	require.Equal(t, "new", string(content))
}

func TestLedgerFileEmptyIsGivenTime(t *testing.T) {
	l := ledgerFile{filepath.Join(t.TempDir(), "ledger")}
	f, created, err := l.open()
	require.NoError(t, err)
	require.True(t, created)
	defer func() { _ = f.Close() }()

	got := make(chan []byte)
	go func() {
		content, _, err := see(l)
		if err != nil {
			t.Error(err)
		}
		got <- content
	}()
	// Between making the file and locking it another instance looks at it.
	tries := lockTries
	ready, err := l.lock(f, true, &tries)
	require.NoError(t, err)
	require.True(t, ready)
	_, err = f.WriteAt([]byte("first"), 0)
	require.NoError(t, err)
	require.NoError(t, f.Close())
	require.Equal(t, "first", string(<-got))

	require.NoError(t, os.Truncate(l.path, 0))
	again, err := os.Open(l.path)
	require.NoError(t, err)
	defer func() { _ = again.Close() }()
	tries = 3
	ready, err = l.lock(again, false, &tries)
	require.NoError(t, err)
	require.True(t, ready)
	require.Equal(t, 1, tries, "it was given all the time there was")
	require.NoError(t, flock(again, unix.LOCK_UN))
	content, created, err := see(l)
	require.NoError(t, err)
	require.False(t, created)
	require.Empty(t, content, "nobody writes it")
}

func TestLedgerFileTooLong(t *testing.T) {
	l := ledgerFile{filepath.Join(t.TempDir(), "ledger")}
	require.NoError(t, os.WriteFile(l.path, nil, 0o600))
	require.NoError(t, os.Truncate(l.path, maxRecord+1))
	content, _, err := see(l)
	require.NoError(t, err)
	_, err = decode(content)
	require.ErrorIs(t, err, errGarbage)
}

func TestLedgerFileNotSavedIsRemoved(t *testing.T) {
	l := ledgerFile{filepath.Join(t.TempDir(), "ledger")}
	want := errors.New("no")
	err := l.update(true, func([]byte, bool, func([]byte) error) error { return want })
	require.ErrorIs(t, err, want)
	require.NoFileExists(t, l.path)

	require.NoError(t, os.WriteFile(l.path, []byte("theirs"), 0o600))
	err = l.update(true, func([]byte, bool, func([]byte) error) error { return want })
	require.ErrorIs(t, err, want)
	require.FileExists(t, l.path, "not ours to remove")
}

func TestKilledWriterLeavesALedger(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger")
	for i := range 10 {
		writer := helper(t, "write", path)
		out, err := writer.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, writer.Start())
		_, err = out.Read(make([]byte, 1)) // it has begun
		require.NoError(t, err)
		_, err = out.Read(make([]byte, 1+i)) // and got somewhere
		require.NoError(t, err)
		require.NoError(t, writer.Process.Kill())
		_ = writer.Wait()

		err = ledgerFile{path}.update(true, func(content []byte, created bool, _ func([]byte) error) error {
			require.False(t, created)
			_, err := decode(content)
			return err
		})
		require.NoError(t, err, "after kill %d", i)
	}
}

// helper is this test program as another process.
func helper(t *testing.T, what, path string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "BUDGET_TEST_HELPER="+what, "BUDGET_TEST_PATH="+path)
	return cmd
}

func TestMain(m *testing.M) {
	path := os.Getenv("BUDGET_TEST_PATH")
	switch os.Getenv("BUDGET_TEST_HELPER") {
	case "":
		os.Exit(m.Run())
	case "full":
		helperFull(path)
	case "write":
		helperWrite(path)
	}
}

// helperFull prints the error of a budget that may not write to a file.
func helperFull(path string) {
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: 0, Max: 0}); err != nil {
		panic(err)
	}
	b, err := New(Options{Path: path})
	if err != nil {
		panic(err)
	}
	_, _ = os.Stdout.WriteString(b.Status().Paced)
}

// helperWrite rewrites the ledger until it is killed.
func helperWrite(path string) {
	l := Limits{Limit: 20, Window: time.Minute, Margin: time.Second, Stall: time.Second}
	for i := 0; ; i++ {
		w := full(time.Duration(i), l)
		content, err := encode(&w, here)
		if err == nil {
			err = ledgerFile{path}.update(true, put(content))
		}
		if err != nil {
			panic(err)
		}
		_, _ = os.Stdout.WriteString("x")
	}
}

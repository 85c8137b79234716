package audit

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// release makes a line of its own.
func release(l *Log) error { return l.Connection(caller(1000)).Released(github) }

func TestFileIsMadeForItsOwnerOnly(t *testing.T) {
	_, s, path := newFile(t, Options{})
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode())
	require.Empty(t, s.take(t))
}

func TestFileIsAppendedTo(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	for want := 1; want <= 2; want++ {
		l, err := New(Options{Path: path})
		require.NoError(t, err)
		require.NoError(t, release(l))
		require.NoError(t, l.Close())
		require.Len(t, readFile(t, path), want)
		require.NoError(t, release(l))
		require.ErrorIs(t, l.Err(), os.ErrClosed)
		require.Len(t, readFile(t, path), want, "nothing comes after Close")
		require.ErrorIs(t, l.Reopen(), os.ErrClosed)
	}
}

func TestFileIsWrittenWhateverTheLogsLevel(t *testing.T) {
	l, s, path := newFile(t, Options{})
	require.NoError(t, release(l))
	require.Len(t, readFile(t, path), 1)
	require.Empty(t, s.take(t), "and nowhere else")
}

func TestModesThatLetOthersIn(t *testing.T) {
	for _, c := range []struct {
		mode os.FileMode
		warn bool
	}{{0o600, false}, {0o640, false}, {0o620, true}, {0o604, true}, {0o602, true}, {0o666, true}} {
		t.Run(c.mode.String(), func(t *testing.T) {
			s := new(sink)
			path := filepath.Join(t.TempDir(), "audit.log")
			require.NoError(t, os.WriteFile(path, nil, 0o600))
			require.NoError(t, os.Chmod(path, c.mode))
			l, err := New(Options{Path: path, Logger: s.logger()})
			require.NoError(t, err)
			require.NoError(t, l.Err(), "the owner decides")
			require.NoError(t, l.Close())
			require.Equal(t, c.warn, len(s.take(t)) == 1)
		})
	}
}

var refusedPaths = []struct {
	name string
	make func(t *testing.T, path string)
	want string
}{
	{"a symbolic link", func(t *testing.T, path string) {
		require.NoError(t, os.WriteFile(path+".target", nil, 0o600))
		require.NoError(t, os.Symlink(path+".target", path))
	}, "is a symbolic link"},
	{"a dangling link", func(t *testing.T, path string) { require.NoError(t, os.Symlink(path+".target", path)) }, "is a symbolic link"},
	{"a directory", func(t *testing.T, path string) { require.NoError(t, os.Mkdir(path, 0o700)) }, "is a directory"},
	{"a FIFO that nobody reads", func(t *testing.T, path string) { require.NoError(t, unix.Mkfifo(path, 0o600)) }, "no such device"},
	{"a FIFO that somebody reads", func(t *testing.T, path string) {
		require.NoError(t, unix.Mkfifo(path, 0o600))
		r, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
		require.NoError(t, err)
		t.Cleanup(func() { _ = r.Close() })
	}, "is not a regular file"},
	{"a socket", func(t *testing.T, path string) {
		ln, err := net.Listen("unix", path)
		require.NoError(t, err)
		t.Cleanup(func() { _ = ln.Close() })
	}, "no such device"},
	{"somebody else's file", func(t *testing.T, path string) {
		if os.Geteuid() != 0 {
			t.Skip("only root can give files away")
		}
		require.NoError(t, os.WriteFile(path, nil, 0o600))
		require.NoError(t, os.Chown(path, 41001, 41001))
	}, "belongs to uid 41001"},
	{"no such directory", func(t *testing.T, path string) { require.NoError(t, os.Remove(filepath.Dir(path))) }, "no such file or directory"},
}

// What is no file of ours is refused, by a daemon that requires its log with an
// error, by any other loudly.
func TestPathsThatAreRefused(t *testing.T) {
	for _, c := range refusedPaths {
		t.Run(c.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "d")
			require.NoError(t, os.Mkdir(dir, 0o700))
			path := filepath.Join(dir, "log")
			c.make(t, path)
			before, err := os.ReadDir(filepath.Dir(dir))
			require.NoError(t, err)

			l, err := New(Options{Path: path, Required: true})
			require.ErrorContains(t, err, c.want)
			require.Nil(t, l)

			s := new(sink)
			l, err = New(Options{Path: path, Logger: s.logger()})
			require.NoError(t, err)
			require.ErrorContains(t, l.Err(), c.want)
			require.NoError(t, release(l), "the daemon goes on")
			require.NoError(t, release(l))
			said := s.take(t)
			require.Len(t, said, 1, "said once")
			require.Equal(t, "ERROR", said[0]["level"])
			require.ErrorContains(t, l.Reopen(), c.want)
			require.NoError(t, l.Close())

			after, err := os.ReadDir(filepath.Dir(dir))
			require.NoError(t, err)
			require.Equal(t, len(before), len(after), "nothing was made")
			if b, err := os.ReadFile(path + ".target"); err == nil {
				require.Empty(t, b, "nothing was written through the link")
			} else {
				require.NoFileExists(t, path+".target")
			}
		})
	}
}

func TestFileThatAppearsLater(t *testing.T) {
	s := new(sink)
	dir := filepath.Join(t.TempDir(), "later")
	l, err := New(Options{Path: filepath.Join(dir, "audit.log"), Logger: s.logger()})
	require.NoError(t, err)
	require.NoError(t, release(l))
	require.NoError(t, release(l))
	require.NoError(t, os.Mkdir(dir, 0o700))
	require.NoError(t, release(l))
	require.NoError(t, l.Err())
	require.Len(t, readFile(t, filepath.Join(dir, "audit.log")), 1)
	said := s.take(t)
	require.Len(t, said, 2)
	require.Equal(t, "audit log can be written again", said[1]["msg"])
	require.EqualValues(t, 2, said[1]["lines_lost"])
	require.NoError(t, l.Close())
}

func TestReopenAfterRotation(t *testing.T) {
	l, _, path := newFile(t, Options{})
	require.NoError(t, release(l))
	require.NoError(t, os.Rename(path, path+".1"))
	require.NoError(t, release(l))
	require.Len(t, readFile(t, path+".1"), 2, "until it is told, it writes to the old one")
	require.NoError(t, l.Reopen())
	require.NoError(t, release(l))
	require.Len(t, readFile(t, path+".1"), 2)
	require.Len(t, readFile(t, path), 1)
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode())
}

func TestReopenThatFailsChangesNothing(t *testing.T) {
	l, _, path := newFile(t, Options{Required: true})
	require.NoError(t, os.Rename(path, path+".1"))
	require.NoError(t, os.Mkdir(path, 0o700))
	require.Error(t, l.Reopen())
	require.NoError(t, release(l))
	require.NoError(t, l.Err())
	require.Len(t, readFile(t, path+".1"), 1)
}

func TestReopenWithoutAFile(t *testing.T) {
	require.NoError(t, newLog(t, new(sink)).Reopen())
	require.NoError(t, newLog(t, new(sink)).Close())
}

func TestReopenClosesTheOldFile(t *testing.T) {
	l, _, _ := newFile(t, Options{})
	count := func() int {
		entries, err := os.ReadDir("/proc/self/fd")
		require.NoError(t, err)
		return len(entries)
	}
	before := count()
	for range 10 {
		require.NoError(t, l.Reopen())
	}
	require.Equal(t, before, count())
}

// disk is a file on a disk with so much room.
type disk struct {
	target
	room int
	err  error
}

func (d *disk) Write(p []byte) (int, error) {
	if d.room < len(p) {
		n, _ := d.target.Write(p[:d.room])
		d.room = 0
		return n, d.err
	}
	d.room -= len(p)
	return d.target.Write(p)
}

// swap puts another disk under a log that may be running.
func swap(l *Log, d target) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.file.open = d
}

func TestFullDisk(t *testing.T) {
	for name, room := range map[string]int{"at a line's end": 0, "a byte later": 1, "within a line": 40} {
		t.Run(name, func(t *testing.T) {
			l, s, path := newFile(t, Options{})
			require.NoError(t, release(l))
			d := &disk{target: l.file.open, room: room, err: unix.ENOSPC}
			swap(l, d)
			for range 3 {
				require.NoError(t, release(l), "the daemon goes on")
			}
			require.ErrorIs(t, l.Err(), unix.ENOSPC)
			said := s.take(t)
			require.Len(t, said, 1, "said once")
			require.Equal(t, "ERROR", said[0]["level"])
			require.Contains(t, said[0]["error"], "no space left")

			d.room = 1 << 20
			require.NoError(t, release(l))
			require.NoError(t, l.Err())
			said = s.take(t)
			require.Len(t, said, 1)
			require.EqualValues(t, 3, said[0]["lines_lost"])
			require.NoError(t, release(l))
			require.Empty(t, s.take(t))

			b, err := os.ReadFile(path)
			require.NoError(t, err)
			lines := strings.SplitAfter(strings.TrimSuffix(string(b), "\n"), "\n")
			if room > 0 { // what is left of a line stands on its own
				require.Len(t, strings.TrimSuffix(lines[1], "\n"), room)
				lines = append(lines[:1], lines[2:]...)
			}
			require.Len(t, parse(t, strings.Join(lines, "")+"\n"), 3)
		})
	}
}

// The kernel's own full disk.
func TestDevFull(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skipf("no /dev/full: %v", err)
	}
	l, s, _ := newFile(t, Options{})
	require.NoError(t, l.file.open.Close())
	swap(l, full)
	require.NoError(t, release(l))
	require.ErrorIs(t, l.Err(), unix.ENOSPC)
	require.Len(t, s.take(t), 1)
}

func TestRequiredLogThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, s, path := newFile(t, Options{Required: true})
		ended := make(chan error, 1)
		go func() { ended <- l.Run(t.Context()) }()
		known := l.Connection(caller(1000))
		require.NoError(t, known.Released(github))
		require.NoError(t, known.Released(github))

		d := &disk{target: l.file.open, err: unix.ENOSPC}
		swap(l, d)
		started := time.Now()
		require.ErrorIs(t, release(l), unix.ENOSPC, "what can't be recorded must not be released")
		err := <-ended
		require.ErrorIs(t, err, unix.ENOSPC)
		require.ErrorContains(t, err, "required")
		require.Zero(t, time.Since(started), "the daemon hears at once")
		require.ErrorIs(t, known.Released(github), unix.ENOSPC, "nor may what would only be counted")
		require.Len(t, s.take(t), 1)

		// While the daemon stops, the disk gets room: nothing more is refused.
		d.room = 1 << 20
		require.NoError(t, known.Released(github))
		require.NoError(t, known.Released(github))
		require.NoError(t, release(l))
		require.NoError(t, l.Err())
		known.Close()
		lines := readFile(t, path)
		for _, line := range lines {
			line["msg"] = line["event"]
		}
		require.Equal(t, 5, released(lines), "exactly those that were not refused")
	})
}

func TestRequiredLogThatFailsInACount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, _, _ := newFile(t, Options{Required: true})
		ended := make(chan error, 1)
		go func() { ended <- l.Run(t.Context()) }()
		conn := l.Connection(caller(1000))
		require.NoError(t, conn.Released(github))
		require.NoError(t, conn.Released(github))
		swap(l, &disk{target: l.file.open, err: unix.ENOSPC})
		started := time.Now()
		require.ErrorIs(t, <-ended, unix.ENOSPC)
		require.Equal(t, DefaultInterval, time.Since(started))
	})
}

func TestRequiredLogThatFailsAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, _, _ := newFile(t, Options{Required: true})
		stop := run(l)
		conn := l.Connection(caller(1000))
		require.NoError(t, conn.Released(github))
		require.NoError(t, conn.Released(github))
		swap(l, &disk{target: l.file.open, err: unix.ENOSPC})
		require.ErrorIs(t, stop(), unix.ENOSPC)
	})
}

// A first line that fails is not made up for by a count: the next release of the
// same kind has to have its line.
func TestRequiredFirstLineIsNotSkipped(t *testing.T) {
	l, _, path := newFile(t, Options{Required: true})
	conn := l.Connection(caller(1000))
	d := &disk{target: l.file.open, err: unix.EIO}
	swap(l, d)
	require.ErrorIs(t, conn.Released(github), unix.EIO)
	d.room = 1 << 20
	require.NoError(t, release(l), "another connection's line ends the failure")
	require.NoError(t, conn.Released(github))
	require.Len(t, readFile(t, path), 2)
}

// A daemon's log that can't be written is noticed as well.
func TestRequiredLoggerThatFails(t *testing.T) {
	broken := errors.New("broken pipe")
	l, err := New(Options{Logger: failing(broken), Required: true})
	require.NoError(t, err)
	require.ErrorIs(t, release(l), broken)
}

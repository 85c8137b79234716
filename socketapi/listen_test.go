package socketapi

import (
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// withUmask runs the test under a umask. No other test may make files meanwhile.
func withUmask(t *testing.T, mask int) {
	t.Helper()
	old := unix.Umask(mask)
	t.Cleanup(func() { unix.Umask(old) })
}

func modeOf(t *testing.T, path string) fs.FileMode {
	t.Helper()
	info, err := os.Lstat(path)
	require.NoError(t, err)
	return info.Mode().Perm()
}

// listen makes a socket and closes it at the end of the test.
func listen(t *testing.T, o ListenOptions) *Listener {
	t.Helper()
	l, err := Listen(o)
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func TestListenModes(t *testing.T) {
	for _, mask := range []int{0, 0o022, 0o077, 0o777} {
		for asked, want := range map[fs.FileMode]fs.FileMode{0: 0o600, 0o600: 0o600, 0o660: 0o660, 0o666: 0o666, 0o777: 0o777} {
			t.Run(fmt.Sprintf("%#o under umask %#o", uint32(asked), mask), func(t *testing.T) {
				path := filepath.Join(t.TempDir(), "s")
				withUmask(t, mask)
				l := listen(t, ListenOptions{Path: path, Mode: asked})
				require.Equal(t, want, modeOf(t, path))
				require.Equal(t, fs.FileMode(0o600), modeOf(t, path+".lock"))
				require.Equal(t, path, l.Path())
			})
		}
	}
}

func TestListenRefusesStrangeModes(t *testing.T) {
	_, err := Listen(ListenOptions{Path: filepath.Join(t.TempDir(), "s"), Mode: fs.ModeSetuid | 0o600})
	require.ErrorContains(t, err, "permission bits")
}

func TestListenGroup(t *testing.T) {
	needRoot(t)
	path := filepath.Join(t.TempDir(), "s")
	listen(t, ListenOptions{Path: path, Mode: 0o660, Group: "12345"})
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.EqualValues(t, 12345, info.Sys().(*syscall.Stat_t).Gid)
	require.Equal(t, fs.FileMode(0o660), info.Mode().Perm())
}

func TestListenGroups(t *testing.T) {
	_, err := Listen(ListenOptions{Path: filepath.Join(t.TempDir(), "s"), Group: "no-such-group-here"})
	require.ErrorContains(t, err, "no-such-group-here")
	gid, err := groupNumber("root")
	require.NoError(t, err)
	require.Zero(t, gid)
	gid, err = groupNumber("")
	require.NoError(t, err)
	require.Equal(t, -1, gid)
}

func TestListenAsAGroupThatIsNotOurs(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root may give a file any group")
	}
	path := filepath.Join(t.TempDir(), "s")
	_, err := Listen(ListenOptions{Path: path, Group: "0"})
	require.ErrorContains(t, err, "must be a member")
	require.NoFileExists(t, path)
	require.NoFileExists(t, path+".lock")
}

func TestNobodyConnectsBeforeTheModeIsSet(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	defer func() { _ = unix.Close(fd) }()
	require.NoError(t, unix.Fchmod(fd, 0o600))
	require.NoError(t, unix.Bind(fd, &unix.SockaddrUnix{Name: path}))
	require.Zero(t, modeOf(t, path)&0o077, "bind takes the mode from the socket")
	_, err = net.Dial("unix", path)
	require.ErrorIs(t, err, syscall.ECONNREFUSED, "there is nothing to connect to before listen")
}

func TestListenPaths(t *testing.T) {
	dir := t.TempDir()
	long := dir + "/" + strings.Repeat("x", maxSocketPath-len(dir)-1)
	listen(t, ListenOptions{Path: long}) // 107 bytes
	require.FileExists(t, long)

	link := filepath.Join(dir, "link")
	require.NoError(t, os.Symlink(long, link))
	dangling := filepath.Join(dir, "dangling")
	require.NoError(t, os.Symlink(filepath.Join(dir, "nothing"), dangling))
	file := filepath.Join(dir, "file")
	require.NoError(t, os.WriteFile(file, []byte("mine"), 0o600))
	cases := []struct{ name, path, want string }{
		{"empty", "", "empty"},
		{"one byte too long", long + "x", "108 bytes"},
		{"abstract", "@grantexd", "abstract"},
		{"abstract with NUL", "\x00grantexd", "abstract"},
		{"NUL inside", "/tmp/a\x00b", "NUL"},
		{"relative", "run/grantexd.sock", "absolute"},
		{"a directory by its slash", dir + "/", "end in the name"},
		{"dot", dir + "/.", "end in the name"},
		{"dot dot", dir + "/..", "end in the name"},
		{"symlink", link, "symbolic link"},
		{"dangling symlink", dangling, "symbolic link"},
		{"a file", file, "no socket"},
		{"a directory", dir, "no socket"},
		{"below a file", file + "/s", "not a directory"},
		{"two directories missing", dir + "/a/b/s", "no such file or directory"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, err := Listen(ListenOptions{Path: c.path})
			require.ErrorContains(t, err, c.want)
		})
	}
	content, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, "mine", string(content))
	require.FileExists(t, long)
}

func TestListenMakesTheLastDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "grantexd")
	withUmask(t, 0o077)
	listen(t, ListenOptions{Path: filepath.Join(dir, "s"), Strict: true})
	require.Equal(t, fs.FileMode(0o755), modeOf(t, dir), "whatever the umask")
}

func TestListenInADirectoryThatOthersMayWrite(t *testing.T) {
	cases := []struct {
		name    string
		mode    fs.FileMode
		refused bool
	}{
		{"own", 0o755, false},
		{"group", 0o775, true},
		{"all", 0o777, true},
		{"all, but sticky", 0o777 | fs.ModeSticky, false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "d")
			require.NoError(t, os.Mkdir(dir, 0o755))
			require.NoError(t, os.Chmod(dir, c.mode))
			path := filepath.Join(dir, "s")
			var log syncBuffer
			o := ListenOptions{Path: path, Logger: slog.New(slog.NewTextHandler(&log, nil))}
			require.NoError(t, listen(t, o).Close())
			require.Equal(t, c.refused, strings.Contains(log.String(), "could replace the socket"), log.String())

			o.Strict = true
			l, err := Listen(o)
			if c.refused {
				require.ErrorContains(t, err, "strict refuses")
				require.NoFileExists(t, path)
				return
			}
			require.NoError(t, err)
			require.NoError(t, l.Close())

			// A directory of its own is the way out where the mount is 0777.
			require.NoError(t, os.Chmod(dir, 0o777))
			problems, err := CheckSocketPath(filepath.Join(dir, "own", "s"))
			require.NoError(t, err)
			require.Empty(t, problems, "it does not exist yet")
			own := listen(t, ListenOptions{Path: filepath.Join(dir, "own", "s"), Strict: true})
			problems, err = CheckSocketPath(own.Path())
			require.NoError(t, err)
			require.Len(t, problems, 1)
			require.False(t, problems[0].Refused)
			require.Contains(t, problems[0].Message, "above the directory")
		})
	}
}

func TestListenInADirectoryOfSomebodyElse(t *testing.T) {
	needRoot(t)
	dir := filepath.Join(t.TempDir(), "d")
	require.NoError(t, os.Mkdir(dir, 0o755))
	require.NoError(t, os.Chown(dir, 12001, -1))
	_, err := Listen(ListenOptions{Path: filepath.Join(dir, "s"), Strict: true})
	require.ErrorContains(t, err, "belongs to uid 12001")
}

func TestSecondDaemonSaysWhoHoldsTheSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	first := startChild(t, nil, "listen", path)
	require.Equal(t, "listening", first.line(t))
	_, err := Listen(ListenOptions{Path: path})
	require.ErrorIs(t, err, ErrInUse)
	require.ErrorContains(t, err, "process "+strconv.Itoa(first.cmd.Process.Pid))
	c, err := net.Dial("unix", path)
	require.NoError(t, err, "the first one is left alone")
	require.NoError(t, c.Close())

	require.NoError(t, first.stdin.Close())
	require.NoError(t, first.cmd.Wait())
	require.NoFileExists(t, path)
	require.NoFileExists(t, path+".lock")
	listen(t, ListenOptions{Path: path})
}

func TestKilledDaemonLeavesNothingInTheWay(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	for range 3 {
		c := startChild(t, nil, "listen", path)
		require.Equal(t, "listening", c.line(t))
		require.NoError(t, c.cmd.Process.Kill())
		require.Error(t, c.cmd.Wait())
		require.FileExists(t, path, "SIGKILL leaves the socket")
	}
	l := listen(t, ListenOptions{Path: path})
	content, err := os.ReadFile(path + ".lock")
	require.NoError(t, err)
	require.Equal(t, strconv.Itoa(os.Getpid())+"\n", string(content))
	require.NoError(t, l.Close())
	require.NoFileExists(t, path)
}

func TestSocketThatSomebodyElseAnswersOn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	other, err := net.Listen("unix", path)
	require.NoError(t, err)
	defer func() { _ = other.Close() }()
	_, err = Listen(ListenOptions{Path: path})
	require.ErrorIs(t, err, ErrInUse)
	require.FileExists(t, path)
	require.NoFileExists(t, path+".lock", "the lock is given back")
}

func TestSocketOfAnotherKindIsLeftAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	other, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	require.NoError(t, err)
	defer func() { _ = other.Close() }()
	_, err = Listen(ListenOptions{Path: path})
	require.ErrorIs(t, err, ErrInUse)
	require.FileExists(t, path)
}

func TestBusySocketIsNotTakenForADeadOne(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	defer func() { _ = unix.Close(fd) }()
	require.NoError(t, unix.Bind(fd, &unix.SockaddrUnix{Name: path}))
	require.NoError(t, unix.Listen(fd, 0))
	var kept []net.Conn
	for err == nil { // until the backlog is full
		var c net.Conn
		if c, err = net.Dial("unix", path); err == nil {
			kept = append(kept, c)
		}
	}
	require.ErrorIs(t, err, syscall.EAGAIN)
	_, err = Listen(ListenOptions{Path: path})
	require.ErrorIs(t, err, ErrInUse)
	require.FileExists(t, path)
	for _, c := range kept {
		require.NoError(t, c.Close())
	}
}

func TestCloseRemovesOnlyWhatIsStillItsOwn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l := listen(t, ListenOptions{Path: path})
	require.NoError(t, os.Remove(path))
	other, err := net.Listen("unix", path)
	require.NoError(t, err)
	defer func() { _ = other.Close() }()
	require.NoError(t, l.Close())
	require.FileExists(t, path, "it belongs to somebody else now")
	require.NoError(t, l.Close(), "again")
}

func TestLockFiles(t *testing.T) {
	t.Run("a symlink is not followed", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "l")
		target := filepath.Join(t.TempDir(), "target")
		require.NoError(t, os.WriteFile(target, []byte("mine"), 0o600))
		require.NoError(t, os.Symlink(target, path))
		_, err := acquireLock(path)
		require.ErrorIs(t, err, syscall.ELOOP)
		content, err := os.ReadFile(target)
		require.NoError(t, err)
		require.Equal(t, "mine", string(content))
	})
	t.Run("a file with another name too is not written to", func(t *testing.T) {
		dir := t.TempDir()
		path, target := filepath.Join(dir, "l"), filepath.Join(dir, "target")
		require.NoError(t, os.WriteFile(target, []byte("mine"), 0o600))
		require.NoError(t, os.Link(target, path))
		_, err := acquireLock(path)
		require.ErrorContains(t, err, "no lock")
		content, err := os.ReadFile(target)
		require.NoError(t, err)
		require.Equal(t, "mine", string(content))
	})
	t.Run("of another user", func(t *testing.T) {
		needRoot(t)
		path := filepath.Join(t.TempDir(), "l")
		require.NoError(t, os.WriteFile(path, nil, 0o666))
		require.NoError(t, os.Chown(path, 12001, -1))
		_, err := acquireLock(path)
		require.ErrorContains(t, err, "no lock")
	})
	t.Run("left behind with another mode", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "l")
		require.NoError(t, os.WriteFile(path, []byte("123456789\n"), 0o644))
		l, err := acquireLock(path)
		require.NoError(t, err)
		defer l.release()
		require.Equal(t, fs.FileMode(0o600), modeOf(t, path))
		content, err := os.ReadFile(path)
		require.NoError(t, err)
		require.Equal(t, strconv.Itoa(os.Getpid())+"\n", string(content))
	})
	t.Run("held, and not signed yet", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "l")
		l, err := acquireLock(path)
		require.NoError(t, err)
		defer l.release()
		require.NoError(t, l.file.Truncate(0))
		_, err = acquireLock(path)
		require.ErrorIs(t, err, ErrInUse)
		require.ErrorContains(t, err, "another process")
	})
	t.Run("released twice by two", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "l")
		first, err := acquireLock(path)
		require.NoError(t, err)
		require.NoError(t, os.Remove(path))
		second, err := acquireLock(path)
		require.NoError(t, err)
		first.release()
		require.FileExists(t, path, "the second one's file stays")
		second.release()
		require.NoFileExists(t, path)
	})
}

func TestLockOfAnotherUserThatCanNotBeOpened(t *testing.T) {
	needRoot(t)
	dir := openDir(t)
	require.NoError(t, os.Chmod(dir, 0o777|fs.ModeSticky))
	listen(t, ListenOptions{Path: filepath.Join(dir, "s")}) // root's
	c := startChild(t, asUser(12001), "listen", filepath.Join(dir, "s"))
	require.Contains(t, c.line(t), "belongs to uid 0")
	require.Error(t, c.cmd.Wait())
	require.Equal(t, 1, c.cmd.ProcessState.ExitCode())
}

func TestOpenUpNoticesAReplacement(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	require.NoError(t, os.WriteFile(path, nil, 0o600))
	_, err := openUp(path, 0o666, -1)
	require.ErrorContains(t, err, "replaced")
	require.Equal(t, fs.FileMode(0o600), modeOf(t, path))
	link := path + "-link"
	require.NoError(t, os.Symlink(path, link))
	_, err = openUp(link, 0o666, -1)
	require.ErrorContains(t, err, "replaced")
	require.Equal(t, fs.FileMode(0o600), modeOf(t, path))
}

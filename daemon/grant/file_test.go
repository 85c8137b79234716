package grant

import (
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/grantexd/grantexd/upstream/clock"
)

// at returns a reader of the file at path.
func at(path string) file { return file{path: path, clock: clock.System{}, open: openRegular} }

func TestReadTellsWhatIsThere(t *testing.T) {
	token := numbered("tok_read")
	tests := []struct {
		name  string
		make  func(t *testing.T, path string)
		kind  kind
		fault string
	}{
		{"nothing", func(*testing.T, string) {}, missing, "does not exist"},
		{"a token", func(t *testing.T, p string) { put(t, p, token) }, present, ""},
		{"an empty file", func(t *testing.T, p string) { put(t, p, "") }, faulty, "empty"},
		{"garbage", func(t *testing.T, p string) { put(t, p, "garbage") }, faulty, "not a JWT"},
		{"17 KB", func(t *testing.T, p string) { put(t, p, token+strings.Repeat(" ", 17_000)) }, faulty, "longer than 16384 bytes"},
		{"a large sparse file", func(t *testing.T, p string) {
			put(t, p, token)
			require.NoError(t, os.Truncate(p, 1<<40))
		}, faulty, "longer than 16384 bytes"},
		{"a directory", func(t *testing.T, p string) { require.NoError(t, os.Mkdir(p, 0o700)) }, faulty, "a directory: the grant token must be in a regular file"},
		{"a named pipe", func(t *testing.T, p string) { require.NoError(t, unix.Mkfifo(p, 0o600)) }, faulty, "a named pipe"},
		{"a link to a named pipe", func(t *testing.T, p string) {
			require.NoError(t, unix.Mkfifo(p+".pipe", 0o600))
			require.NoError(t, os.Symlink(p+".pipe", p))
		}, faulty, "a named pipe"},
		{"a socket", func(t *testing.T, p string) {
			l, err := net.Listen("unix", p)
			require.NoError(t, err)
			t.Cleanup(func() { _ = l.Close() })
		}, faulty, "a socket"},
		{"a device", func(t *testing.T, p string) { require.NoError(t, os.Symlink("/dev/zero", p)) }, faulty, "a device"},
		{"a link to a token", func(t *testing.T, p string) {
			put(t, p+".real", token)
			require.NoError(t, os.Symlink(filepath.Base(p)+".real", p))
		}, present, ""},
		{"a dangling link", func(t *testing.T, p string) { require.NoError(t, os.Symlink("nowhere", p)) }, missing, "does not exist"},
		{"a link to itself", func(t *testing.T, p string) { require.NoError(t, os.Symlink(p, p)) }, faulty, "too many levels of symbolic links"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(privateDir(t), "grant")
			tt.make(t, path)
			r := at(path).read()
			require.Equal(t, tt.kind, r.kind, r.fault)
			require.Contains(t, r.fault, tt.fault)
			if tt.kind == present {
				require.Equal(t, token, r.grant.Token.Reveal())
			} else {
				require.Nil(t, r.grant)
			}
		})
	}
}

func put(t testing.TB, path, content string) {
	t.Helper()
	require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
}

func TestReadTakesAFileForADirectoryAsMissing(t *testing.T) {
	dir := privateDir(t)
	put(t, filepath.Join(dir, "plain"), "x")
	require.Equal(t, missing, at(filepath.Join(dir, "plain", "grant")).read().kind)
}

func TestDeniedAdvisesTheOwner(t *testing.T) {
	own := filepath.Join(privateDir(t), "grant")
	put(t, own, "x")
	for path, advice := range map[string]string{own: "chmod 0600 " + own, own + "-missing": "let its group read it"} {
		f := at(path)
		f.open = func(path string) (*os.File, error) {
			return nil, &fs.PathError{Op: "open", Path: path, Err: syscall.EACCES}
		}
		require.Contains(t, f.read().fault, advice)
	}
	if os.Geteuid() != 0 {
		return // who isn't root can't give a file away
	}
	require.NoError(t, os.Chown(own, overflowGID, overflowGID))
	f := at(own)
	f.open = func(string) (*os.File, error) { return nil, syscall.EACCES }
	require.Contains(t, f.read().fault, "let its group read it", "somebody else's")
}

func TestReadErrors(t *testing.T) {
	tests := []struct {
		err   error
		kind  kind
		fault string
	}{
		{syscall.ENOENT, missing, "does not exist"},
		{syscall.ENOTDIR, missing, "does not exist"},
		{syscall.EACCES, faulty, "permission denied for uid"},
		{syscall.EPERM, faulty, "permission denied for uid"},
		{syscall.EIO, faulty, "can't be read: input/output error"},
		{syscall.ESTALE, faulty, "can't be read: stale"},
		{syscall.ETIMEDOUT, faulty, "can't be read: connection timed out"},
		{syscall.EMFILE, faulty, "can't be read: too many open files"},
		{os.ErrDeadlineExceeded, faulty, "can't be read: i/o timeout"},
	}
	for _, tt := range tests {
		t.Run(tt.err.Error(), func(t *testing.T) {
			f := at("/nowhere")
			f.open = func(path string) (*os.File, error) {
				return nil, &fs.PathError{Op: "open", Path: path, Err: tt.err}
			}
			r := f.read()
			require.Equal(t, tt.kind, r.kind)
			require.Contains(t, r.fault, tt.fault)
		})
	}
	t.Run("while reading", func(t *testing.T) {
		f := at("/nowhere")
		f.open = func(string) (*os.File, error) { return os.Open(t.TempDir()) }
		r := f.read()
		require.Equal(t, faulty, r.kind)
		require.Contains(t, r.fault, "is a directory")
	})
}

func TestOpenLeavesNoDescriptor(t *testing.T) {
	path := filepath.Join(privateDir(t), "pipe")
	require.NoError(t, unix.Mkfifo(path, 0o600))
	before := descriptors(t)
	for range 10 {
		_, err := openRegular(path)
		require.Error(t, err)
		at(path).read()
	}
	put(t, path+".file", "x")
	at(path + ".file").read()
	require.Equal(t, before, descriptors(t))
}

func descriptors(t *testing.T) int {
	list, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	return len(list)
}

func TestAgeIsThatOfTheLatestChange(t *testing.T) {
	path := filepath.Join(privateDir(t), "grant")
	put(t, path, numbered("tok_age"))
	now := time.Now()
	require.Less(t, at(path).read().age, time.Minute)

	require.NoError(t, os.Chtimes(path, now, now.Add(-time.Hour)))
	require.Less(t, at(path).read().age, time.Minute, "an old modification time can be forged, the change time can't")

	require.NoError(t, os.Chtimes(path, now, now.Add(time.Hour)))
	require.Zero(t, at(path).read().age, "a file of the future has no age")
}

const staff, nobody = 50, overflowGID // groups

// owner is who may do what.
type owner struct {
	mode os.FileMode
	gid  int
}

// exposures are modes and groups of a file and its directory.
var exposures = []struct {
	name string
	dir  owner
	file owner
	want []string // parts of the text; none: nobody else can read it
}{
	{"the owner's alone", owner{0o755, 0}, owner{0o600, 0}, nil},
	{"the group's", owner{0o755, 0}, owner{0o640, staff}, nil},
	{"the group may write", owner{0o755, 0}, owner{0o660, staff}, nil},
	{"everybody's", owner{0o755, 0}, owner{0o644, 0}, []string{"other users can read it", "(mode 0644)", "chmod o= "}},
	{"executable bits don't matter", owner{0o755, 0}, owner{0o711, 0}, nil},
	{"others can write", owner{0o755, 0}, owner{0o602, 0}, []string{"can change it", "(mode 0602)"}},
	{"others can do both", owner{0o755, 0}, owner{0o666, 0}, []string{"can read and change it"}},
	{"everybody's in a closed directory", owner{0o700, 0}, owner{0o644, 0}, nil},
	{"everybody's in a group's directory", owner{0o750, staff}, owner{0o644, 0}, nil},
	{"a directory that others can list but not enter", owner{0o744, 0}, owner{0o644, 0}, nil},
	{"a directory that others can enter but not list", owner{0o711, 0}, owner{0o644, 0}, []string{"can read it"}},
	{"the group is nobody's", owner{0o755, 0}, owner{0o640, nobody}, []string{"can read it", "chmod go= "}},
	{"all groups are nobody's", owner{0o750, nobody}, owner{0o640, nobody}, []string{"can read it"}},
}

func TestExposure(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to give files to other groups")
	}
	for _, tt := range exposures {
		t.Run(tt.name, func(t *testing.T) {
			dir := filepath.Join(openDir(t), "d")
			path := filepath.Join(dir, "grant")
			require.NoError(t, os.Mkdir(dir, 0o755))
			put(t, path, numbered("tok_mode"))
			require.NoError(t, os.Chown(path, 0, tt.file.gid))
			require.NoError(t, os.Chmod(path, tt.file.mode))
			require.NoError(t, os.Chown(dir, 0, tt.dir.gid))
			require.NoError(t, os.Chmod(dir, tt.dir.mode))
			got := at(path).read().exposure
			if tt.want == nil {
				require.Empty(t, got)
			}
			for _, part := range tt.want {
				require.Contains(t, got, part)
			}
		})
	}
	t.Run("a private link to a public file", func(t *testing.T) {
		public := filepath.Join(openDir(t), "grant")
		put(t, public, numbered("tok_link"))
		require.NoError(t, os.Chmod(public, 0o644))
		link := filepath.Join(privateDir(t), "grant")
		require.NoError(t, os.Symlink(public, link))
		require.Contains(t, at(link).read().exposure, "can read it")
	})
	t.Run("a public link to a private file", func(t *testing.T) {
		private := filepath.Join(privateDir(t), "grant")
		put(t, private, numbered("tok_link"))
		require.NoError(t, os.Chmod(private, 0o644))
		link := filepath.Join(openDir(t), "grant")
		require.NoError(t, os.Symlink(private, link))
		require.Empty(t, at(link).read().exposure)
	})
}

// openDir returns a directory that everybody can enter. The directories that
// testing makes can be closed to others by the umask or above.
func openDir(t *testing.T) string {
	dir, err := os.MkdirTemp("/tmp", "grant-test-")
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	require.NoError(t, os.Chmod(dir, 0o755))
	return dir
}

func TestDefaultPath(t *testing.T) {
	with := t.TempDir()
	put(t, filepath.Join(with, "grant"), "x")
	tests := []struct {
		name, explicit, credentials, want string
	}{
		{"explicit", "/a/b", with, "/a/b"},
		{"credential", "", with, filepath.Join(with, "grant")},
		{"no such credential", "", t.TempDir(), FallbackPath},
		{"no such directory", "", "/nonexistent", FallbackPath},
		{"no systemd", "", "", FallbackPath},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := DefaultPath(tt.explicit, func(name string) string {
				require.Equal(t, "CREDENTIALS_DIRECTORY", name)
				return tt.credentials
			})
			require.Equal(t, tt.want, got)
		})
	}
}

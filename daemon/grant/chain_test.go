package grant

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// realDir returns a temporary directory by its physical path.
func realDir(t testing.TB) string {
	dir, err := filepath.EvalSymlinks(privateDir(t))
	require.NoError(t, err)
	return dir
}

// walks are paths below a directory of the test, and their chains.
var walks = []struct {
	name string
	make func(t *testing.T, dir string)
	path string
	// dirs are the directories below the test's own ("" for itself) that
	// hold the file or a link; on the way are others.
	vital, way []string
	names      []string
	complete   bool
}{
	{"a file", func(t *testing.T, d string) { put(t, d+"/grant", "") }, "grant",
		[]string{""}, nil, []string{"grant"}, true},
	{"a file to come", func(*testing.T, string) {}, "grant",
		[]string{""}, nil, []string{"grant"}, true},
	{"below directories", func(t *testing.T, d string) { mkdir(t, d+"/a/b") }, "a/b/grant",
		[]string{"/a/b"}, []string{"", "/a"}, []string{"a", "b", "grant"}, true},
	{"missing directories", func(t *testing.T, d string) { mkdir(t, d+"/a") }, "a/b/c/grant",
		[]string{"/a"}, []string{""}, []string{"a", "b"}, false},
	{"a Kubernetes volume", func(t *testing.T, d string) {
		mkdir(t, d+"/v/..2026_01")
		link(t, "..2026_01", d+"/v/..data")
		link(t, "..data/grant", d+"/v/grant")
		put(t, d+"/v/..2026_01/grant", "")
	}, "v/grant",
		[]string{"/v", "/v/..2026_01"}, []string{""}, []string{"v", "grant", "..data", "..2026_01"}, true},
	{"a chain of links", func(t *testing.T, d string) {
		mkdir(t, d+"/a")
		mkdir(t, d+"/b")
		link(t, d+"/a/one", d+"/grant")
		link(t, "../b/two", d+"/a/one")
	}, "grant",
		[]string{"", "/a", "/b"}, nil, []string{"grant", "a", "one", "b", "two"}, true},
	{"dots after a link lead to the target's parent", func(t *testing.T, d string) {
		mkdir(t, d+"/a/b")
		link(t, "a/b", d+"/l")
		put(t, d+"/a/grant", "")
	}, "l/./../grant",
		[]string{"", "/a"}, nil, []string{"l", "a", "b", "grant"}, true},
	{"a dangling link", func(t *testing.T, d string) { link(t, "gone/grant", d+"/grant") }, "grant",
		[]string{""}, nil, []string{"grant", "gone"}, false},
	{"a link to itself", func(t *testing.T, d string) { link(t, "grant", d+"/grant") }, "grant",
		[]string{""}, nil, []string{"grant"}, false},
	{"a file on the way", func(t *testing.T, d string) { put(t, d+"/a", "") }, "a/grant",
		[]string{"/a"}, []string{""}, []string{"a", "grant"}, false},
}

func TestWalk(t *testing.T) {
	for _, tt := range walks {
		t.Run(tt.name, func(t *testing.T) {
			dir := realDir(t)
			tt.make(t, dir)
			c := walk(dir + "/" + tt.path)
			for _, d := range tt.vital {
				require.True(t, c.dirs[dir+d], "%q in %v", dir+d, c.dirs)
			}
			for _, d := range tt.way {
				v, found := c.dirs[dir+d]
				require.True(t, found && !v, "%q in %v", dir+d, c.dirs)
			}
			for _, n := range tt.names {
				require.True(t, c.concerns(filepath.Join("/anywhere", n)), n)
			}
			require.False(t, c.concerns(dir+"/other"))
			require.Equal(t, tt.complete, c.complete)
			_, root := c.dirs["/"]
			require.True(t, root, "the way begins at the root")
		})
	}
}

func mkdir(t testing.TB, path string) {
	t.Helper()
	require.NoError(t, os.MkdirAll(path, 0o755))
}

func link(t testing.TB, target, path string) {
	t.Helper()
	require.NoError(t, os.Symlink(target, path))
}

package daemon

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/grantexd/grantexd/upstream/secret"
)

func TestFingerprintSurvivesARestart(t *testing.T) {
	dir := t.TempDir()
	first, err := newFingerprinter(dir)
	require.NoError(t, err)
	second, err := newFingerprinter(dir)
	require.NoError(t, err)
	token := secret.New("a-token")
	require.Equal(t, first.Fingerprint(token), second.Fingerprint(token))
	require.NotEqual(t, first.Fingerprint(token), first.Fingerprint(secret.New("another")))
	require.Len(t, first.Fingerprint(token), 2*fingerprintBytes)

	info, err := os.Stat(filepath.Join(dir, fingerprintKeyFile))
	require.NoError(t, err)
	require.Equal(t, fs.FileMode(0o600), info.Mode().Perm())

	elsewhere, err := newFingerprinter(t.TempDir())
	require.NoError(t, err)
	require.NotEqual(t, first.Fingerprint(token), elsewhere.Fingerprint(token), "each host has its own key")
}

func TestFingerprintKeyThatCantBeUsed(t *testing.T) {
	for name, spoil := range map[string]func(t *testing.T, path string){
		"too short": func(t *testing.T, path string) {
			require.NoError(t, os.WriteFile(path, []byte("short"), 0o600))
		},
		"a directory": func(t *testing.T, path string) { require.NoError(t, os.Mkdir(path, 0o700)) },
		"a symlink": func(t *testing.T, path string) {
			target := filepath.Join(t.TempDir(), "key")
			require.NoError(t, os.WriteFile(target, make([]byte, fingerprintKeySize), 0o600))
			require.NoError(t, os.Symlink(target, path))
		},
		"no directory": func(t *testing.T, path string) { require.NoError(t, os.RemoveAll(filepath.Dir(path))) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "state")
			require.NoError(t, os.Mkdir(dir, 0o700))
			spoil(t, filepath.Join(dir, fingerprintKeyFile))
			f, err := newFingerprinter(dir)
			require.Error(t, err)
			require.NotRegexp(t, `fingerprint\.key\.\d`, err.Error(), "no random name")
			require.NotEmpty(t, f.Fingerprint(secret.New("a-token")), "it works all the same, with a key of its own")
		})
	}
}

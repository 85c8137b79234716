package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestManualPagesAreReproducibleAndWhole(t *testing.T) {
	pages := func(dir string) map[string][]byte {
		var out, errs bytes.Buffer
		code := run(t.Context(), []string{"man", dir}, []string{"SOURCE_DATE_EPOCH=86400"}, stdio{nil, &out, &errs})
		require.Zero(t, code, errs.String())
		files, err := filepath.Glob(filepath.Join(dir, "*.1"))
		require.NoError(t, err)
		found := map[string][]byte{}
		for _, f := range files {
			content, err := os.ReadFile(f)
			require.NoError(t, err)
			found[filepath.Base(f)] = content
		}
		return found
	}
	first, second := pages(t.TempDir()), pages(t.TempDir())
	require.Equal(t, first, second)
	require.Contains(t, first, "grantexd.1")
	require.Contains(t, string(first["grantexd-serve.1"]), "--grant-file")
	require.Contains(t, string(first["grantexd-get.1"]), "EXAMPLE")

	var out, errs bytes.Buffer
	require.Equal(t, exitUsage, run(t.Context(), []string{"man", t.TempDir()}, []string{"SOURCE_DATE_EPOCH=x"}, stdio{nil, &out, &errs}))
	require.Contains(t, errs.String(), "seconds since 1970")
}

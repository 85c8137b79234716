package main

import (
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestDaemonOf(t *testing.T) {
	own := strconv.Itoa(os.Getpid())
	for name, tc := range map[string]struct {
		lock string // "" for none
		want string // "" for no error
	}{
		"its own":                  {own + "\n", ""},
		"made by service manager":  {"", "systemctl reload grantexd"},
		"of a process that ended":  {"1999999999\n", "does not name the process that listens"},
		"of the first process":     {"1\n", "does not name the process that listens"},
		"of all processes":         {"-1\n", "does not name the process that listens"},
		"of our own process group": {"0\n", "does not name the process that listens"},
		"being written":            {"\n", "does not name the process that listens"},
	} {
		t.Run(name, func(t *testing.T) {
			socket := filepath.Join(t.TempDir(), "s")
			l, err := net.Listen("unix", socket)
			require.NoError(t, err)
			server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("{}")) })}
			go func() { _ = server.Serve(l) }()
			t.Cleanup(func() { _ = server.Close() })
			if tc.lock != "" {
				require.NoError(t, os.WriteFile(socket+".lock", []byte(tc.lock), 0o600))
			}
			pid, err := daemonOf(t.Context(), socket)
			if tc.want != "" {
				require.ErrorContains(t, err, tc.want)
				return
			}
			require.NoError(t, err)
			require.Equal(t, os.Getpid(), pid)
		})
	}
	_, err := daemonOf(t.Context(), filepath.Join(t.TempDir(), "none"))
	require.Equal(t, exitUnreachable, exitCodeOf(err))
}

package main

import (
	"bytes"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/grantexd/grantexd/socketapi/wire"
)

// answering is a daemon that gives always the same answers. It returns its socket.
func answering(t *testing.T, handler http.Handler) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "gx") // a socket's path is short, and t.TempDir's is not
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	socket := filepath.Join(dir, "s")
	listener, err := net.Listen("unix", socket)
	require.NoError(t, err)
	server := httptest.NewUnstartedServer(handler)
	require.NoError(t, server.Listener.Close())
	server.Listener = listener
	server.Start()
	t.Cleanup(server.Close)
	return socket
}

// saying runs a command and returns what it prints.
func saying(t *testing.T, args ...string) (code int, out, errs string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	code = run(t.Context(), args, nil, stdio{nil, &stdout, &stderr})
	return code, stdout.String(), stderr.String()
}

func TestGetSaysWhyTheVaultWasNotAsked(t *testing.T) {
	const soon = "warning: the vault was not asked, since the last exchange was less than 30s ago"
	for _, tt := range []struct{ name, cacheStatus, age, flag, want string }{
		{"a hit", "grantexd; hit; ttl=3540", "29", "--no-cache", soon + ": this credential was confirmed 29s ago"},
		{"a hit without a ttl", "grantexd; hit", "0", "--no-cache", soon},
		{"an old hit", "grantexd; hit; ttl=-3", "30", "--no-cache", "the vault was not asked: this credential was confirmed 30s ago; grantexd explain github"},
		{"an exchange", "grantexd; fwd=request; stored; ttl=3540", "0", "--no-cache", ""},
		{"a hit that is good enough", "grantexd; hit; ttl=3540", "3", "--no-cache=false", ""},
		{"an older daemon", "", "3", "--no-cache", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			socket := answering(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Cache-Status", tt.cacheStatus)
				w.Header().Set("Age", tt.age)
				_, _ = w.Write([]byte(`{"accessToken":"made-up","service":"github"}`))
			}))
			code, out, errs := saying(t, "get", "github", "--socket", socket, tt.flag)
			require.Equal(t, exitOK, code)
			require.Equal(t, "made-up\n", out)
			if tt.want == "" {
				require.Empty(t, errs)
			}
			require.Contains(t, errs, tt.want)
		})
	}
}

func TestWaitSaysWhatTheVaultFailedWith(t *testing.T) {
	const failure = "the vault answered 503"
	for _, tt := range []struct{ name, notReady, last, want string }{
		{"prefetching", "prefetching", failure, "not ready after 0s: prefetching; the vault: " + failure + "\n"},
		{"said already", "prefetching: " + failure, failure, "not ready after 0s: prefetching: " + failure + "\n"},
		{"a vault that works", "prefetching", "", "not ready after 0s: prefetching\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			mux := http.NewServeMux()
			mux.HandleFunc(wire.PathReady, func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(http.StatusServiceUnavailable)
				_ = json.NewEncoder(w).Encode(wire.Error{Code: wire.CodeUpstreamError, Message: tt.notReady})
			})
			mux.HandleFunc(wire.PathStatus, func(w http.ResponseWriter, _ *http.Request) {
				_ = json.NewEncoder(w).Encode(wire.Status{Upstream: wire.Upstream{LastError: tt.last}})
			})
			code, _, errs := saying(t, "wait", "--socket", answering(t, mux), "--timeout", "0")
			require.Equal(t, exitUpstream, code)
			require.Equal(t, "grantexd: "+tt.want, errs)
		})
	}
}

// The problem of the grant file stands in a warning, and there alone.
func TestStatusSaysAProblemOnce(t *testing.T) {
	const problem = "/g can't be read"
	socket := answering(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(wire.Status{
			Grant: wire.Grant{State: "usable", Problem: problem}, Warnings: []string{"the grant file: " + problem},
			Budget: wire.Budget{Free: 18, Limit: 20, WindowSeconds: 60},
		})
	}))
	code, out, _ := saying(t, "status", "--socket", socket)
	require.Equal(t, exitOK, code)
	require.Equal(t, 1, bytes.Count([]byte(out), []byte(problem)), out)
	require.Contains(t, out, "18 of 20 left  per 1m0s\n")
}

func TestCounted(t *testing.T) {
	require.Equal(t, "0 errors", counted(0, "error"))
	require.Equal(t, "1 error", counted(1, "error"))
	require.Equal(t, "2 errors", counted(2, "error"))
}

func TestCalledAs(t *testing.T) {
	const hash = "23122a2b7918e116e91c0517e81d4be674dbafa4ba0d8f8002fb3588904f0771"
	for path, want := range map[string]string{
		"/tmp/go-build4020790646/b001/exe/grantexd":          "go run ./cmd/grantexd",
		"/home/u/.cache/go-build/23/" + hash + "-d/grantexd": "go run ./cmd/grantexd",
		"/var/cache/own/23/" + hash + "-d/grantexd":          "go run ./cmd/grantexd",
		"/usr/bin/grantexd":                                  "grantexd",
		"./grantexd":                                         "grantexd",
		"grantexd":                                           "grantexd",
		"/home/u/go-builds/grantexd":                         "grantexd",
	} {
		require.Equal(t, want, calledAs(path), path)
	}
}

func TestNearestOf(t *testing.T) {
	names := []string{"interval", "json", "socket", "wait"}
	for word, want := range map[string]string{
		"jsn": "json", "jsno": "json", "sock": "socket", "wat": "wait", "interva": "interval", "colour": "", "": "",
	} {
		require.Equal(t, want, nearestOf(word, names), word)
	}
	require.Equal(t, "watch", nearestOf("watc", []string{"match", "watch"}), "the nearest, not the first")
}

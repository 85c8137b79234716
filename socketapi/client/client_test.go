package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/grantexd/grantexd/socketapi/client"
	"github.com/grantexd/grantexd/socketapi/wire"
	"github.com/grantexd/grantexd/upstream/secret"
)

const canary = "gho_canary-3b8f20"

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// daemon is a fake one that answers with what its handler says.
type daemon struct {
	socket string

	mu       sync.Mutex // guards the rest
	requests []*http.Request
	bodies   []string
	conns    map[net.Conn]bool
}

// startDaemon answers every request with status, header and body.
func startDaemon(t testing.TB, status int, header http.Header, body string) *daemon {
	t.Helper()
	d := &daemon{socket: filepath.Join(t.TempDir(), "s"), conns: map[net.Conn]bool{}}
	l, err := net.Listen("unix", d.socket)
	require.NoError(t, err)
	server := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			sent, _ := io.ReadAll(r.Body)
			d.mu.Lock()
			d.requests, d.bodies = append(d.requests, r), append(d.bodies, string(sent))
			d.mu.Unlock()
			for k, v := range header {
				w.Header()[k] = v
			}
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
		}),
		ConnState: func(c net.Conn, s http.ConnState) {
			d.mu.Lock()
			defer d.mu.Unlock()
			d.conns[c] = s != http.StateClosed
		},
	}
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close(); <-done })
	return d
}

func (d *daemon) last() (*http.Request, string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.requests[len(d.requests)-1], d.bodies[len(d.bodies)-1]
}

func (d *daemon) open() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := 0
	for _, open := range d.conns {
		if open {
			n++
		}
	}
	return n
}

func credentialJSON(t testing.TB) (wire.Credential, string) {
	c := wire.Credential{
		AccessToken: secret.New(canary), Service: "github", CredentialType: "oauth2",
		TokenExpiresAt: time.Date(2031, 4, 5, 6, 7, 8, 0, time.UTC), Metadata: json.RawMessage(`{"login":"octocat"}`),
	}
	b, err := json.Marshal(c)
	require.NoError(t, err)
	return c, string(b)
}

var credentialHeader = http.Header{
	"Etag": {`"k7Xq"`}, "Cache-Status": {"grantexd; hit; ttl=10"}, "Age": {"61"},
}

func TestGet(t *testing.T) {
	want, body := credentialJSON(t)
	d := startDaemon(t, 200, credentialHeader, body)
	c := client.Client{Socket: d.socket}
	defer c.CloseIdleConnections()
	cases := []struct {
		name            string
		options         client.GetOptions
		prefer, control string
	}{
		{"plain", client.GetOptions{}, "", ""},
		{"wait", client.GetOptions{Wait: 5 * time.Second}, "wait=5", ""},
		{"a fraction", client.GetOptions{Wait: 250 * time.Millisecond}, "wait=0.25", ""},
		{"not at all", client.GetOptions{Wait: -1}, "wait=0", ""},
		{"no cache", client.GetOptions{NoCache: true}, "", "no-cache"},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			got, meta, err := c.Get(t.Context(), "github", tc.options)
			require.NoError(t, err)
			require.Equal(t, &want, got)
			require.Equal(t, client.Meta{Fingerprint: "k7Xq", CacheStatus: "grantexd; hit; ttl=10", Age: 61 * time.Second}, meta)
			r, _ := d.last()
			require.Equal(t, "GET", r.Method)
			require.Equal(t, "/v1/credentials/github", r.URL.Path)
			require.Equal(t, "grantexd", r.Host)
			require.Equal(t, tc.prefer, r.Header.Get("Prefer"))
			require.Equal(t, tc.control, r.Header.Get("Cache-Control"))
		})
	}
	require.Equal(t, 1, d.open(), "the connection is kept")
}

func TestNamesGoAsTheyAreSpelled(t *testing.T) {
	d := startDaemon(t, 200, nil, "{}")
	c := client.Client{Socket: d.socket}
	defer c.CloseIdleConnections()
	for _, name := range []string{"github", "..", "a/b", "a b", "a?b#c", "a%2Fb", "ä", "a\r\nX: y", ""} {
		_, _ = c.Explain(t.Context(), name, "")
		r, _ := d.last()
		require.Equal(t, "/v1/explain/"+name, r.URL.Path)
	}
	_, _ = c.Explain(t.Context(), "github", "0:0&x=y")
	r, _ := d.last()
	require.Equal(t, "0:0&x=y", r.URL.Query().Get("as"))
}

func TestRejected(t *testing.T) {
	want, body := credentialJSON(t)
	d := startDaemon(t, 200, credentialHeader, body)
	c := client.Client{Socket: d.socket}
	defer c.CloseIdleConnections()
	got, meta, err := c.Rejected(t.Context(), "github", "old")
	require.NoError(t, err)
	require.Equal(t, &want, got)
	require.Equal(t, "k7Xq", meta.Fingerprint)
	r, sent := d.last()
	require.Equal(t, "POST", r.Method)
	require.Equal(t, "/v1/credentials/github/rejected", r.URL.Path)
	require.Equal(t, "application/json", r.Header.Get("Content-Type"))
	require.JSONEq(t, `{"fingerprint":"old"}`, sent)
}

func TestQueries(t *testing.T) {
	d := startDaemon(t, 200, nil, `{"version":"1","state":"held","credentials":[{"service":"github"}],"service":"github"}`)
	c := client.Client{Socket: d.socket}
	defer c.CloseIdleConnections()
	list, err := c.List(t.Context())
	require.NoError(t, err)
	require.Equal(t, "github", list.Credentials[0].Service)
	explanation, err := c.Explain(t.Context(), "github", "")
	require.NoError(t, err)
	require.Equal(t, "held", explanation.State)
	status, err := c.Status(t.Context())
	require.NoError(t, err)
	require.Equal(t, "1", status.Version)
	require.NoError(t, c.Health(t.Context()))
	require.NoError(t, c.Ready(t.Context()))
	r, _ := d.last()
	require.Equal(t, "/readyz", r.URL.Path)
}

// calls are all calls of the client.
func calls(c *client.Client) map[string]func(context.Context) error {
	return map[string]func(context.Context) error{
		"Get":      func(ctx context.Context) error { _, _, err := c.Get(ctx, "github", client.GetOptions{}); return err },
		"Rejected": func(ctx context.Context) error { _, _, err := c.Rejected(ctx, "github", "f"); return err },
		"List":     func(ctx context.Context) error { _, err := c.List(ctx); return err },
		"Explain":  func(ctx context.Context) error { _, err := c.Explain(ctx, "github", "1:1"); return err },
		"Status":   func(ctx context.Context) error { _, err := c.Status(ctx); return err },
		"Health":   c.Health,
		"Ready":    c.Ready,
	}
}

func TestErrorsAreTyped(t *testing.T) {
	want := wire.Error{
		Message: "no slot", Code: wire.CodeRateLimited, RequestID: "r-1", RetryAfter: 7, UpstreamStatus: 429, UpstreamRequestID: "u",
	}
	body, err := json.Marshal(want)
	require.NoError(t, err)
	d := startDaemon(t, 429, nil, string(body))
	c := &client.Client{Socket: d.socket}
	defer c.CloseIdleConnections()
	for name, call := range calls(c) {
		err := call(t.Context())
		var got *wire.Error
		require.ErrorAs(t, err, &got, name)
		require.Equal(t, want, *got, name)
	}
}

func TestAnswersOfSomethingElse(t *testing.T) {
	cases := []struct {
		name   string
		status int
		body   string
	}{
		{"not found", 404, "404 page not found"},
		{"other JSON", 500, `{"error":"` + canary + `"}`},
		{"success without JSON", 200, "<html>" + canary},
		{"torn", 200, `{"accessToken":"` + canary},
		{"no token", 200, `{"service":"github"}`},
		{"no content", 204, ""},
		{"a redirect", 302, ""},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			d := startDaemon(t, tc.status, http.Header{"Location": {"/elsewhere"}}, tc.body)
			c := client.Client{Socket: d.socket}
			defer c.CloseIdleConnections()
			_, _, err := c.Get(t.Context(), "github", client.GetOptions{})
			require.ErrorContains(t, err, "not grantexd's")
			require.NotContains(t, err.Error(), canary)
			r, _ := d.last()
			require.Equal(t, "/v1/credentials/github", r.URL.Path, "redirects are not followed")
		})
	}
}

func TestAnEndlessAnswerIsCutOff(t *testing.T) {
	d := startDaemon(t, 200, nil, strings.Repeat("x", 3<<20))
	c := client.Client{Socket: d.socket}
	defer c.CloseIdleConnections()
	_, _, err := c.Get(t.Context(), "github", client.GetOptions{})
	require.ErrorContains(t, err, "not grantexd's")
}

func TestDialErrors(t *testing.T) {
	dir := t.TempDir()
	stale := filepath.Join(dir, "stale")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: stale, Net: "unix"})
	require.NoError(t, err)
	l.SetUnlinkOnClose(false)
	require.NoError(t, l.Close())
	file := filepath.Join(dir, "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	cases := []struct {
		name, socket string
		errno        syscall.Errno
		hint         string
	}{
		{"none", filepath.Join(dir, "none"), syscall.ENOENT, "GRANTEXD_SOCKET"},
		{"below a file", filepath.Join(file, "s"), syscall.ENOTDIR, "start the daemon"},
		{"left behind", stale, syscall.ECONNREFUSED, "left behind"},
		{"too long", "/" + strings.Repeat("x", 108), syscall.EINVAL, "107"},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			c := &client.Client{Socket: tc.socket}
			for name, call := range calls(c) {
				err := call(t.Context())
				var dial *client.DialError
				require.ErrorAs(t, err, &dial, name)
				require.ErrorIs(t, err, tc.errno, name)
				require.Equal(t, tc.socket, dial.Socket)
				require.Contains(t, dial.Hint, tc.hint)
				require.Contains(t, err.Error(), tc.socket)
				require.Contains(t, err.Error(), dial.Hint)
				require.Equal(t, 1, strings.Count(err.Error(), tc.socket), err.Error())
			}
		})
	}
}

func TestCancelledCalls(t *testing.T) {
	d := startDaemon(t, 200, nil, "{}")
	c := &client.Client{Socket: d.socket}
	defer c.CloseIdleConnections()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for name, call := range calls(c) {
		require.ErrorIs(t, call(ctx), context.Canceled, name)
	}
}

func TestCloseIdleConnections(t *testing.T) {
	d := startDaemon(t, 200, nil, "{}")
	c := client.Client{Socket: d.socket}
	require.NoError(t, c.Health(t.Context()))
	require.Equal(t, 1, d.open())
	c.CloseIdleConnections()
	require.Eventually(t, func() bool { return d.open() == 0 }, 5*time.Second, time.Millisecond)
	require.NoError(t, c.Health(t.Context()), "it can be used again")
	c.CloseIdleConnections()
}

func TestDefaultSocket(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, "grantexd"), 0o755))
	own := filepath.Join(dir, "grantexd", "grantexd.sock")
	t.Setenv("GRANTEXD_SOCKET", "")
	t.Setenv("XDG_RUNTIME_DIR", dir)
	require.Equal(t, client.SystemSocket, client.DefaultSocket(), "the user has no socket")
	require.NoError(t, os.WriteFile(own, nil, 0o600))
	require.Equal(t, client.SystemSocket, client.DefaultSocket(), "what is there is no socket")
	require.NoError(t, os.Remove(own))
	l, err := net.Listen("unix", own)
	require.NoError(t, err)
	defer func() { _ = l.Close() }()
	require.Equal(t, own, client.DefaultSocket())
	t.Setenv("XDG_RUNTIME_DIR", "relative")
	require.Equal(t, client.SystemSocket, client.DefaultSocket(), "the XDG specification ignores relative paths")
	t.Setenv("XDG_RUNTIME_DIR", dir)
	t.Setenv("GRANTEXD_SOCKET", "/somewhere/else")
	require.Equal(t, "/somewhere/else", client.DefaultSocket())
}

func TestZeroClientAsksTheDefaultSocket(t *testing.T) {
	_, body := credentialJSON(t)
	d := startDaemon(t, 200, credentialHeader, body)
	t.Setenv("GRANTEXD_SOCKET", d.socket)
	var c client.Client
	defer c.CloseIdleConnections()
	got, _, err := c.Get(t.Context(), "github", client.GetOptions{})
	require.NoError(t, err)
	require.Equal(t, canary, got.AccessToken.Reveal())
	t.Setenv("GRANTEXD_SOCKET", "/nowhere")
	require.NoError(t, c.Health(t.Context()), "it stays with the one that it found")
}

func TestNothingPrintsTheToken(t *testing.T) {
	_, body := credentialJSON(t)
	d := startDaemon(t, 200, credentialHeader, body)
	c := client.Client{Socket: d.socket}
	defer c.CloseIdleConnections()
	got, meta, err := c.Get(t.Context(), "github", client.GetOptions{})
	require.NoError(t, err)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
		require.NotContains(t, fmt.Sprintf(verb+verb+verb, got, *got, meta), canary)
	}
}

func TestUseByMany(t *testing.T) {
	_, body := credentialJSON(t)
	d := startDaemon(t, 200, credentialHeader, body)
	c := client.Client{Socket: d.socket}
	defer c.CloseIdleConnections()
	var wg sync.WaitGroup
	errs := make([]error, 32)
	for i := range errs {
		wg.Go(func() { _, _, errs[i] = c.Get(t.Context(), "github", client.GetOptions{}) })
	}
	wg.Wait()
	require.NoError(t, errors.Join(errs...))
}

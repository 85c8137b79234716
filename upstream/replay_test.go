package upstream_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/grantexd/grantexd/upstream"
	"github.com/grantexd/grantexd/upstream/secret"
)

// The secrets of these tests. Each begins with "canary", which must never be
// printed.
const (
	grantToken  = "canaryhead000.canaryclaims0.canarysignature"
	apiKey      = "gx_canary_api_key"
	accessToken = "canary_access_token"
)

var grant = secret.New(grantToken)

// request is what a replayed vault was asked.
type request struct {
	method, path, query, body string
	header                    http.Header
}

// vault is a server that gives raw answers, byte for byte.
type vault struct {
	*httptest.Server
	mu       sync.Mutex // guards the rest
	answers  [][]byte
	requests []request
}

// replay serves the fixtures in turn, the last one again and again.
func replay(t *testing.T, fixtures ...string) *vault {
	t.Helper()
	answers := make([][]byte, len(fixtures))
	for i, name := range fixtures {
		answers[i] = readFixture(t, name)
	}
	return serve(t, answers...)
}

// readFixture returns a raw answer.
func readFixture(t *testing.T, name string) []byte {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("testdata", "wire", name+".http"))
	require.NoError(t, err)
	return raw
}

// serve gives the answers in turn, the last one again and again, and closes the
// connection after each.
func serve(t *testing.T, answers ...[]byte) *vault {
	t.Helper()
	v := &vault{answers: answers}
	v.Server = httptest.NewServer(v)
	t.Cleanup(v.Close)
	return v
}

func (v *vault) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	v.mu.Lock()
	v.requests = append(v.requests, request{
		method: r.Method, path: r.URL.EscapedPath(), query: r.URL.RawQuery, body: string(body), header: r.Header,
	})
	answer := v.answers[min(len(v.requests), len(v.answers))-1]
	v.mu.Unlock()
	conn, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		panic(err)
	}
	_, _ = conn.Write(answer)
	_ = conn.Close()
}

// seen returns what was asked so far.
func (v *vault) seen() []request {
	v.mu.Lock()
	defer v.mu.Unlock()
	return append([]request(nil), v.requests...)
}

// only returns the one request that was made.
func (v *vault) only(t *testing.T) request {
	t.Helper()
	seen := v.seen()
	require.Len(t, seen, 1, "requests")
	return seen[0]
}

// newClient returns a client of the address with short waits.
func newClient(t *testing.T, address string, change ...func(*upstream.Options)) *upstream.Client {
	t.Helper()
	options := upstream.Options{
		BaseURL:      address,
		APIKey:       secret.New(apiKey),
		RetryWaitMin: time.Millisecond,
		RetryWaitMax: 2 * time.Millisecond,
	}
	for _, f := range change {
		f(&options)
	}
	c, err := upstream.New(options)
	require.NoError(t, err)
	t.Cleanup(c.CloseIdleConnections)
	return c
}

// roundTripFunc is a transport in a function.
type roundTripFunc func(*http.Request) (*http.Response, error)

func (f roundTripFunc) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// newFakeClient returns a client with the default times over a fake transport,
// for the virtual time of a bubble.
func newFakeClient(t *testing.T, transport roundTripFunc, change ...func(*upstream.Options)) *upstream.Client {
	t.Helper()
	return newClient(t, "https://vault.test", append([]func(*upstream.Options){func(o *upstream.Options) {
		o.Transport, o.RetryWaitMin, o.RetryWaitMax = transport, 0, 0
	}}, change...)...)
}

// respond makes an answer.
func respond(r *http.Request, status int, body io.Reader, header ...string) *http.Response {
	resp := &http.Response{
		StatusCode: status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{}, Body: io.NopCloser(body), ContentLength: -1, Request: r,
	}
	for i := 0; i < len(header); i += 2 {
		resp.Header.Add(header[i], header[i+1])
	}
	return resp
}

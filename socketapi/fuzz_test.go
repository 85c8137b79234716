package socketapi

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/grantexd/grantexd/socketapi/access"
	"github.com/grantexd/grantexd/socketapi/peer"
	"github.com/grantexd/grantexd/socketapi/wire"
)

// fuzzSource checks what reaches it: whatever the request was, only well-formed
// names and sensible waits do.
type fuzzSource struct {
	*fakeSource
	t *testing.T
}

func (s *fuzzSource) Credential(ctx context.Context, r Request) (Answer, error) {
	s.check(r)
	return s.fakeSource.Credential(ctx, r)
}

func (s *fuzzSource) Rejected(ctx context.Context, r Request, fingerprint string) (Answer, error) {
	require.NotEmpty(s.t, fingerprint)
	return s.Credential(ctx, r)
}

func (s *fuzzSource) Explain(service string) wire.Explanation {
	require.True(s.t, validName(service), "%q", service)
	return s.fakeSource.Explain(service)
}

func (s *fuzzSource) check(r Request) {
	require.True(s.t, validName(r.Service), "%q", r.Service)
	require.GreaterOrEqual(s.t, r.Wait, time.Duration(0))
	require.LessOrEqual(s.t, r.Wait, DefaultMaxWait)
	require.NotEqual(s.t, "secret", r.Service, "no rule allows it")
}

// FuzzHandler sends whatever parses as an HTTP request through the whole handler,
// for a caller who may read two of three services. The parts are fuzzed one by
// one, so that most of them do parse.
func FuzzHandler(f *testing.F) {
	const ctJSON = "Host: grantexd\r\nContent-Type: application/json\r\n"
	for _, s := range [][4]string{
		{"GET", "/v1/credentials/github", "Host: grantexd\r\n", ""},
		{"GET", "/v1/credentials/secret", "Host: localhost\r\nAccept: text/plain\r\n", ""},
		{"HEAD", "/v1/credentials/slack", "Host: grantexd\r\nPrefer: wait=0.5\r\nCache-Control: no-cache\r\n", ""},
		{"POST", "/v1/vault/credentials/exchange", ctJSON, `{"service":"github"}`},
		{"POST", "/v1/vault/credentials/exchange", ctJSON, `{"service":"secret"}`},
		{"POST", "/v1/credentials/github/rejected", ctJSON, `{"fingerprint":"x"}`},
		{"GET", "/v1/explain/github?as=0:0", "Host: grantexd\r\n", ""},
		{"GET", "/v1/credentials/a%0d%0ab", "Host: grantexd\r\n", ""},
		{"GET", "/v1/credentials/../../healthz", "Host: grantexd\r\n", ""},
		{"GET", "http://evil/v1/status", "Host: grantexd\r\nOrigin: null\r\n", ""},
		{"GET", "/v1/credentials", "Host: grantexd\r\n", ""},
		{"OPTIONS", "*", "Host: grantexd\r\n", ""},
		{"GET", "/metrics", "Host: grantexd\r\nReferer:\r\n", ""},
	} {
		f.Add(s[0], s[1], s[2], s[3])
	}
	allowed := rules(f, access.Rule{Users: []string{"1000"}, Services: []string{"github", "slack"}})
	f.Fuzz(func(t *testing.T, method, target, header, body string) {
		raw := fmt.Sprintf("%s %s HTTP/1.1\r\n%sContent-Length: %d\r\n\r\n%s", method, target, header, len(body), body)
		r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(raw)))
		if err != nil {
			return
		}
		source := &fuzzSource{fakeSource: newFakeSource("github", "slack", "secret"), t: t}
		a, log := newAPI(t, Options{Source: source, Access: allowed})
		r = r.WithContext(context.WithValue(context.Background(), sessionKey{}, newSession(peer.As(1000, 1000), nil)))
		w := httptest.NewRecorder()
		a.Handler().ServeHTTP(w, r)
		checkAnswer(t, r, w)
		requireNoCanary(t, log.String())
		require.NotContains(t, log.String(), "level=ERROR")
	})
}

// checkAnswer checks what every answer must be.
func checkAnswer(t *testing.T, r *http.Request, w *httptest.ResponseRecorder) {
	t.Helper()
	for name, values := range w.Header() {
		for _, v := range values {
			require.False(t, strings.ContainsAny(name+v, "\r\n\x00"), "%q: %q", name, v)
		}
	}
	if len(r.Header["Origin"]) > 0 || len(r.Header["Referer"]) > 0 || !localHost(r.Host) {
		requireError(t, w, wire.CodeForbiddenOrigin)
	}
	if w.Code != http.StatusOK {
		var e wire.Error
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &e))
		requireError(t, w, e.Code)
		require.NotEqual(t, wire.CodeInternal, e.Code)
		requireNoCanary(t, w.Body.String())
		return
	}
	require.NotEmpty(t, w.Header().Get("Content-Type"))
	if strings.Contains(w.Body.String(), canary) {
		require.NotEmpty(t, w.Header().Get("Cache-Status"), "a token comes from a read alone")
		require.NotContains(t, w.Body.String(), `"service":"secret"`)
	}
}

// FuzzProtocolError checks that only answers of net/http's own are replaced.
func FuzzProtocolError(f *testing.F) {
	f.Add([]byte("HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n400 Bad Request"))
	f.Add([]byte("HTTP/1.1 417 Expectation Failed\r\n\r\n"))
	f.Add([]byte("HTTP/1.1 200 OK\r\n\r\n"))
	f.Fuzz(func(t *testing.T, p []byte) {
		answer := protocolError(p)
		if answer == nil {
			return
		}
		require.True(t, bytes.HasPrefix(p, []byte("HTTP/1.1 ")))
		response, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(answer)), nil)
		require.NoError(t, err)
		body, err := io.ReadAll(response.Body)
		require.NoError(t, err)
		require.NoError(t, json.Unmarshal(body, new(wire.Error)))
		require.True(t, response.Close)
	})
}

package socketapi

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/grantexd/grantexd/socketapi/wire"
)

// everyRoute is a request that is answered with 200 on each route, and one that
// is not.
func everyRoute() []call {
	return []call{
		{path: "/v1/credentials/github"},
		{path: "/v1/credentials/github", method: http.MethodHead},
		{path: "/v1/credentials"},
		{path: "/v1/explain/github"},
		{path: "/v1/status"},
		{path: "/healthz"},
		{path: "/readyz"},
		{path: "/metrics"},
		post(wire.PathExchange, `{"service":"github"}`),
		post("/v1/credentials/github/rejected", `{"fingerprint":"x"}`),
		{path: "/nowhere"},
		{path: "/v1/credentials/..", method: http.MethodDelete},
		{path: "/v1/credentials/github", method: http.MethodOptions},
	}
}

func TestBrowsersAreRefusedOnEveryRoute(t *testing.T) {
	headers := map[string]http.Header{
		"origin":          {"Origin": {"https://evil.example"}},
		"null origin":     {"Origin": {"null"}},
		"empty origin":    {"Origin": {""}},
		"own origin":      {"Origin": {"http://localhost"}},
		"referer":         {"Referer": {"http://localhost/"}},
		"empty referer":   {"Referer": {""}},
		"several origins": {"Origin": {"", "x"}},
	}
	source := newFakeSource("github")
	a, _ := newAPI(t, Options{Source: source})
	for name, header := range headers {
		for _, c := range everyRoute() {
			merged := header.Clone()
			for k, v := range c.header {
				merged[k] = v
			}
			c.header = merged
			w := c.do(a)
			require.Equal(t, http.StatusForbidden, w.Code, "%s %s %s", name, c.method, c.path)
			requireError(t, w, wire.CodeForbiddenOrigin)
		}
	}
	require.Empty(t, source.asked())
}

func TestForeignHostsAreRefusedOnEveryRoute(t *testing.T) {
	source := newFakeSource("github")
	a, _ := newAPI(t, Options{Source: source})
	for _, host := range []string{
		"evil.example", "localhost.evil.example", "grantexd.evil.example", "localhost:80", "grantexd:1", "127.0.0.1",
		"[::1]", "localhost.", "xlocalhost", "local", " localhost",
	} {
		for _, c := range everyRoute() {
			c.host = host
			requireError(t, c.do(a), wire.CodeForbiddenOrigin)
		}
	}
	c := call{path: "/healthz"}.request()
	c.Host = ""
	require.Error(t, guard(&session{}, c), "HTTP/1.0 without a Host")
	require.Empty(t, source.asked())
}

func TestOwnHosts(t *testing.T) {
	a, _ := newAPI(t, Options{Source: newFakeSource("github")})
	for _, host := range []string{"localhost", "grantexd", "LocalHost", "GRANTEXD"} {
		require.Equal(t, http.StatusOK, call{path: "/v1/credentials/github", host: host}.do(a).Code, host)
	}
}

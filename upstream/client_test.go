package upstream_test

import (
	"io"
	"log"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/grantexd/grantexd/upstream"
)

// quiet is a logger for servers that are meant to be hung up on.
func quiet() *log.Logger { return log.New(io.Discard, "", 0) }

func TestBaseURL(t *testing.T) {
	for _, tt := range []struct{ name, given, want, says string }{
		{"hosted", "https://api.grantex.dev", "https://api.grantex.dev", ""},
		{"port", "https://vault.example:8443", "https://vault.example:8443", ""},
		{"slash", "https://vault.example/", "https://vault.example", ""},
		{"slashes", "https://vault.example///", "https://vault.example", ""},
		{"v1", "https://vault.example/v1", "https://vault.example", ""},
		{"v1 and slashes", "https://vault.example//v1//", "https://vault.example", ""},
		{"prefix", "https://vault.example/grantex", "https://vault.example/grantex", ""},
		{"prefix and v1", "https://vault.example/grantex/v1/", "https://vault.example/grantex", ""},
		{"escaped prefix", "https://vault.example/a%2Fb/", "https://vault.example/a%2Fb", ""},
		{"no v1 but the like", "https://vault.example/xv1", "https://vault.example/xv1", ""},
		{"capital scheme", "HTTPS://vault.example", "https://vault.example", ""},
		{"localhost", "http://localhost:8080", "http://localhost:8080", ""},
		{"capital localhost", "http://LOCALHOST:8080", "http://LOCALHOST:8080", ""},
		{"127.0.0.1", "http://127.0.0.1:8080", "http://127.0.0.1:8080", ""},
		{"end of 127/8", "http://127.255.255.254", "http://127.255.255.254", ""},
		{"::1", "http://[::1]:8080", "http://[::1]:8080", ""},
		{"127.0.0.1 in IPv6", "http://[::ffff:127.0.0.1]", "http://[::ffff:127.0.0.1]", ""},

		{"nothing", "", "", "is missing"},
		{"no scheme", "vault.example", "", "https://host"},
		{"only a path", "/vault", "", "https://host"},
		{"no host", "https://", "", "https://host"},
		{"only a port", "https://:443", "", "https://host"},
		{"other scheme", "ftp://vault.example", "", "https://host"},
		{"unix", "unix:///run/x.sock", "", "https://host"},
		{"unparsable", "https://canary\x00", "", "can't be parsed"},
		{"bad escape", "https://vault.example/%zzcanary", "", "can't be parsed"},
		{"user", "https://canary@vault.example", "", "no user"},
		{"password", "https://u:canary@vault.example", "", "no user"},
		{"query", "https://vault.example?canary", "", "no query"},
		{"empty query", "https://vault.example?", "", "no query"},
		{"fragment", "https://vault.example#canary", "", "no query and no fragment"},
		{"empty fragment", "https://vault.example#", "", "no query and no fragment"},
		{"whole path", "https://vault.example/v1/vault/credentials/exchange", "", "end before /v1"},
		{"half the path", "https://vault.example/v1/vault", "", "end before /v1"},
		{"http", "http://vault.example", "", "must be https"},
		{"http and a loopback name below", "http://localhost.example", "", "must be https"},
		{"http and a number below", "http://127.0.0.1.example", "", "must be https"},
		{"http beside 127/8", "http://128.0.0.1", "", "must be https"},
		{"http below 127/8", "http://126.255.255.255", "", "must be https"},
		{"http and ::2", "http://[::2]", "", "must be https"},
		{"http to everywhere", "http://0.0.0.0", "", "must be https"},
		{"http and a short number", "http://127.1", "", "must be https"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, err := upstream.New(upstream.Options{BaseURL: tt.given})
			if tt.says != "" {
				require.ErrorContains(t, err, tt.says)
				require.NotContains(t, err.Error(), "canary")
				return
			}
			require.NoError(t, err)
			require.Equal(t, tt.want, c.BaseURL())
		})
	}
}

// Whatever the base, the budget finds its path by its end.
func TestBaseURLIsUsed(t *testing.T) {
	for base, want := range map[string]string{
		"":            "/v1/vault/credentials/exchange",
		"/":           "/v1/vault/credentials/exchange",
		"/v1/":        "/v1/vault/credentials/exchange",
		"/pre/fix/v1": "/pre/fix/v1/vault/credentials/exchange",
		"/a%2Fb":      "/a%2Fb/v1/vault/credentials/exchange",
	} {
		v := replay(t, "exchange-200-expiry")
		_, err := newClient(t, v.URL+base).Exchange(t.Context(), grant, "github")
		require.NoError(t, err)
		require.Equal(t, want, v.only(t).path, "base %q", base)
	}
}

func TestOptions(t *testing.T) {
	const base = "https://vault.example"
	for _, tt := range []struct {
		name    string
		options upstream.Options
		says    string
	}{
		{"least", upstream.Options{BaseURL: base}, ""},
		{"only a longer least wait", upstream.Options{BaseURL: base, RetryWaitMin: time.Second}, ""},
		{"equal waits", upstream.Options{BaseURL: base, RetryWaitMin: time.Second, RetryWaitMax: time.Second}, ""},
		{"waits the wrong way round", upstream.Options{BaseURL: base, RetryWaitMin: 2 * time.Second, RetryWaitMax: time.Second},
			"RetryWaitMin (2s) must not be above RetryWaitMax (1s)"},
		{"negative timeout", upstream.Options{BaseURL: base, AttemptTimeout: -1}, "AttemptTimeout must not be negative"},
		{"negative least wait", upstream.Options{BaseURL: base, RetryWaitMin: -1}, "RetryWaitMin must not be negative"},
		{"negative longest wait", upstream.Options{BaseURL: base, RetryWaitMax: -1}, "RetryWaitMax must not be negative"},
		{"CA file and transport", upstream.Options{BaseURL: base, CAFile: "x", Transport: http.DefaultTransport}, "can't be combined"},
		{"wrapper of nothing", upstream.Options{BaseURL: base,
			Wrap: func(http.RoundTripper) http.RoundTripper { return nil }}, "returned nil"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, err := upstream.New(tt.options)
			if tt.says != "" {
				require.ErrorContains(t, err, tt.says)
				return
			}
			require.NoError(t, err)
			require.NotNil(t, c)
		})
	}
}

func TestUserAgent(t *testing.T) {
	v := replay(t, "exchange-200-expiry")
	c := newClient(t, v.URL, func(o *upstream.Options) { o.UserAgent = "grantexd/1.2.3" })
	_, err := c.Exchange(t.Context(), grant, "github")
	require.NoError(t, err)
	require.Equal(t, "grantexd/1.2.3", v.only(t).header.Get("User-Agent"))
}

// closingTransport counts how often it is told to close idle connections.
type closingTransport struct {
	roundTripFunc
	closed int
}

func (t *closingTransport) CloseIdleConnections() { t.closed++ }

// A failure drops kept connections, which may be dead too, even where a wrapper
// lies between that knows nothing of it.
func TestFailureDropsIdleConnections(t *testing.T) {
	status := 200
	base := &closingTransport{roundTripFunc: func(r *http.Request) (*http.Response, error) {
		if status != 200 {
			return nil, io.EOF
		}
		return respond(r, 200, strings.NewReader(goodBody)), nil
	}}
	c := newClient(t, "https://vault.example", wait(0), func(o *upstream.Options) { o.Transport = base })
	_, err := c.Exchange(t.Context(), grant, "github")
	require.NoError(t, err)
	require.Zero(t, base.closed)
	status = 0
	_, err = c.Exchange(t.Context(), grant, "github")
	require.Error(t, err)
	require.Equal(t, 1, base.closed)
	c.CloseIdleConnections()
	require.Equal(t, 2, base.closed)
}

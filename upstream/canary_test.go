package upstream_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/grantexd/grantexd/upstream"
	"github.com/grantexd/grantexd/upstream/secret"
)

// printed returns v in every way in which somebody may print it.
func printed(t *testing.T, v any) string {
	t.Helper()
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x"} {
		fmt.Fprintf(&out, verb+"\n", v)
	}
	slog.New(slog.NewTextHandler(&out, nil)).Info("x", "v", v)
	slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "v", v)
	if encoded, err := json.Marshal(v); err == nil {
		out.Write(encoded)
	}
	return out.String()
}

// requireNoCanary fails if v, or an error that it wraps, can be made to print a
// secret.
func requireNoCanary(t *testing.T, v any) {
	t.Helper()
	text := strings.ToLower(printed(t, v))
	require.NotContains(t, text, "canary")
	require.NotContains(t, text, fmt.Sprintf("%x", "canary"))
	switch e := v.(type) {
	case interface{ Unwrap() error }:
		if inner := e.Unwrap(); inner != nil {
			requireNoCanary(t, inner)
		}
	case interface{ Unwrap() []error }:
		for _, inner := range e.Unwrap() {
			requireNoCanary(t, inner)
		}
	}
}

func TestExportedTypesHoldTheirTongue(t *testing.T) {
	key := secret.New(apiKey)
	options := upstream.Options{BaseURL: "https://vault.test", APIKey: key}
	client, err := upstream.New(options)
	require.NoError(t, err)
	cred := upstream.Credential{AccessToken: secret.New(accessToken), Service: "github", Metadata: json.RawMessage(`{}`)}
	params := upstream.StoreParams{AccessToken: secret.New(accessToken), RefreshToken: secret.New("canary_refresh")}
	for _, v := range []any{
		options, &options, client, *client, []*upstream.Client{client}, struct{ C *upstream.Client }{client},
		struct{ c *upstream.Client }{client}, cred, &cred, []upstream.Credential{cred}, params, &params,
	} {
		requireNoCanary(t, v)
	}
	require.Contains(t, printed(t, cred), secret.Redacted)
}

// echo is a vault that puts everything it was sent, and a credential, wherever
// it can.
func echo(status int) roundTripFunc {
	return func(r *http.Request) (*http.Response, error) {
		signed := r.Header.Get("Authorization")
		body, _ := json.Marshal(map[string]string{"message": signed, "code": strings.TrimPrefix(signed, "Bearer "), "requestId": signed})
		return respond(r, status, bytes.NewReader(body), "Location", "https://elsewhere.test/?"+signed,
			"Retry-After", signed, "Date", signed, "X-Ratelimit-Reset", signed, "X-Request-Id", signed), nil
	}
}

func TestErrorsHoldTheirTongue(t *testing.T) {
	refused, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, refused.Close())
	untrusted := httptest.NewUnstartedServer(http.NotFoundHandler())
	untrusted.Config.ErrorLog = quiet()
	untrusted.StartTLS()
	t.Cleanup(untrusted.Close)

	clients := map[string]*upstream.Client{
		"refused":   newClient(t, "http://"+refused.Addr().String()),
		"untrusted": newClient(t, untrusted.URL),
	}
	for _, status := range []int{200, 201, 302, 400, 401, 429, 500, 503} {
		clients[fmt.Sprint("echo ", status)] = newClient(t, "https://vault.test", func(o *upstream.Options) { o.Transport = echo(status) })
	}
	for name, cause := range map[string]error{
		"foreign error": fmt.Errorf("malformed HTTP response %q", accessToken),
		"deadline":      context.DeadlineExceeded,
	} {
		clients[name] = newClient(t, "https://vault.test", func(o *upstream.Options) {
			o.Transport = roundTripFunc(func(*http.Request) (*http.Response, error) { return nil, cause })
		})
	}
	fail := func(t *testing.T, err error) {
		t.Helper()
		require.Error(t, err)
		requireNoCanary(t, err)
	}
	for name, c := range clients {
		t.Run(name, func(t *testing.T) {
			_, err := c.Exchange(t.Context(), grant, "github")
			fail(t, err)
			for _, call := range []string{"store", "list", "get"} {
				fail(t, developerCalls[call](t.Context(), c))
			}
			// A DELETE that is answered by 200 is a success, whatever the body.
			if err := developerCalls["delete"](t.Context(), c); err != nil {
				requireNoCanary(t, err)
			}
			ended, cancel := context.WithTimeout(t.Context(), -time.Second)
			defer cancel()
			_, err = c.Exchange(ended, grant, "github")
			fail(t, err)
		})
	}
}

// A credential whose request id is a token's echo keeps it to itself.
func TestRequestIDIsNoToken(t *testing.T) {
	for _, id := range []string{grantToken, accessToken, "x-" + accessToken} {
		c := newFakeClient(t, func(r *http.Request) (*http.Response, error) {
			return respond(r, 200, strings.NewReader(goodBody), "X-Request-Id", id), nil
		})
		cred, err := c.Exchange(t.Context(), grant, "github")
		require.NoError(t, err)
		requireNoCanary(t, cred)
	}
}

// A reviewer of secrets has one file of the package to read.
func TestRevealStandsInOneFile(t *testing.T) {
	files, err := filepath.Glob("*.go")
	require.NoError(t, err)
	var found []string
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		source, err := os.ReadFile(name)
		require.NoError(t, err)
		if bytes.Contains(source, []byte(".Reveal(")) {
			found = append(found, name)
		}
	}
	require.Equal(t, []string{"reveal.go"}, found)
}

// The names that callers branch on survive being wrapped.
func TestSentinelsSurviveWrapping(t *testing.T) {
	c := newFakeClient(t, func(*http.Request) (*http.Response, error) { return nil, net.ErrClosed })
	_, err := c.Exchange(t.Context(), grant, "github")
	require.ErrorIs(t, fmt.Errorf("x: %w", err), upstream.ErrConnect)
	require.NotErrorIs(t, err, upstream.ErrTimeout)
	require.Contains(t, err.Error(), "the connection was closed before the answer was complete")
}

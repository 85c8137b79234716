package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/grantexd/grantexd/daemon/grant"
	"github.com/grantexd/grantexd/upstream"
	"github.com/grantexd/grantexd/upstream/devvault"
)

func TestExpiryInThePastOnDemand(t *testing.T) {
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Time{
		"-1h": now.Add(-time.Hour), "0s": now, "1s": now.Add(time.Second), "2020-01-01T00:00:00Z": time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC),
	} {
		got, err := parseExpiry(text, now, true)
		require.NoError(t, err, text)
		require.Equal(t, want, got, text)
	}
	_, err := parseExpiry("tomorrow", now, true)
	require.ErrorContains(t, err, "not understood")
}

func TestCheckExchange(t *testing.T) {
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	good := grant.Claims{Scopes: []string{"github:read"}, ScopesKnown: true, ExpiresAt: now.Add(time.Second)}
	for name, tc := range map[string]struct {
		change func(*grant.Claims)
		want   string
	}{
		"good":                           {func(*grant.Claims) {}, ""},
		"lives for a moment":             {func(c *grant.Claims) { c.ExpiresAt = now.Add(1) }, ""},
		"expires now":                    {func(c *grant.Claims) { c.ExpiresAt = now }, "expired"},
		"expired":                        {func(c *grant.Claims) { c.ExpiresAt = now.Add(-time.Hour) }, "expired 1h0m ago"},
		"does not say when it expires":   {func(c *grant.Claims) { c.ExpiresAt = time.Time{} }, ""},
		"another service's scope":        {func(c *grant.Claims) { c.Scopes = []string{"slack:read"} }, "(slack:read) don't cover github"},
		"no scope":                       {func(c *grant.Claims) { c.Scopes = nil }, "vault:credentials:exchange"},
		"a scope that only it can judge": {func(c *grant.Claims) { c.Scopes = []string{"a:b:c:d"} }, ""},
		"scopes of an unknown shape":     {func(c *grant.Claims) { c.Scopes, c.ScopesKnown = nil, false }, ""},
		"a scope that moves the cursor":  {func(c *grant.Claims) { c.Scopes = []string{"\x1b[2J:x"} }, "(?[2J:x)"},
	} {
		t.Run(name, func(t *testing.T) {
			claims := good
			tc.change(&claims)
			err := checkExchange(claims, "github", now)
			if tc.want == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, tc.want)
			require.ErrorContains(t, err, "not sent")
			require.Equal(t, exitRefused, exitCodeOf(err))
		})
	}
}

func TestExchangeThatCanNotSucceedIsNotSent(t *testing.T) {
	vault := newRecordedVault(t, devvault.Options{})
	side := newCommandSide(t, vault)
	for name, p := range map[string]devvault.MintParams{
		"expired": {Life: -time.Hour}, "of another service": {Scopes: []string{"slack:read"}},
	} {
		_, err := side.exchange(vault.grant(t, p), "github")
		require.Equal(t, exitRefused, exitCodeOf(err), name)
	}
	require.Zero(t, vault.count())
}

func TestVaultErrorsSayWhatToDo(t *testing.T) {
	answer := func(status int, code string) *upstream.Error {
		return &upstream.Error{Status: status, Code: code, Message: "m", RequestID: "r-1", URL: "http://vault"}
	}
	limited := answer(429, "BAD_REQUEST")
	limited.RetryAfter = 7 * time.Second
	proxy := answer(502, "")
	proxy.RequestID = ""
	wrongPath := answer(401, "UNAUTHORIZED")
	wrongPath.Message = "Invalid API key"
	gaveUp := errors.New("the call was given up")
	for name, tc := range map[string]struct {
		err                 error
		developer, exchange string
	}{
		"401":                  {answer(401, "UNAUTHORIZED"), "check the API key", "expired or was revoked"},
		"401 of a wrong path":  {wrongPath, "check the API key", "without /v1"},
		"403":                  {answer(403, "FORBIDDEN"), "", "github:credentials:read"},
		"404":                  {answer(404, "NOT_FOUND"), "grantexd vault list", "grantexd vault store"},
		"404 of another":       {answer(404, ""), "without /v1", "without /v1"},
		"429":                  {limited, "try again in 7s", "try again in 7s"},
		"429 that doesn't say": {answer(429, "BAD_REQUEST"), "in a minute", "in a minute"},
		"500":                  {answer(500, "INTERNAL_ERROR"), "request id r-1", "request id r-1"},
		"502 of a proxy":       {proxy, "a proxy before it", "a proxy before it"},
		"malformed":            {&upstream.MalformedError{URL: "http://vault", Reason: "no JSON"}, "without /v1", "without /v1"},
		"no connection":        {fmt.Errorf("%w: refused", upstream.ErrConnect), "HTTPS_PROXY", "HTTPS_PROXY"},
		"no answer":            {fmt.Errorf("%w: late", upstream.ErrTimeout), "--timeout", "--timeout"},
		"no token":             {upstream.ErrNoToken, "one line", "the grant token"},
		"something else":       {gaveUp, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			for _, c := range []struct {
				err  error
				want string
			}{{explainDeveloperError(tc.err), tc.developer}, {explainExchangeError(tc.err, "github"), tc.exchange}} {
				require.ErrorIs(t, c.err, tc.err)
				if c.want == "" {
					require.Equal(t, tc.err, c.err, "nothing is made up")
					continue
				}
				require.ErrorContains(t, c.err, c.want)
			}
			if !errors.Is(tc.err, upstream.ErrNoToken) {
				require.Equal(t, exitCodeOf(tc.err), exitCodeOf(explainExchangeError(tc.err, "github")), "advice changes no exit code")
			}
		})
	}
	require.NoError(t, explainDeveloperError(nil))
	require.NoError(t, explainExchangeError(nil, "github"))
}

func TestVaultThatFailsIsExplained(t *testing.T) {
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = w.Write([]byte("canary"))
	}))
	t.Cleanup(web.Close)
	env := []string{"GRANTEXD_UPSTREAM=" + web.URL, "GRANTEX_API_KEY=k"}
	r := runCommand(t, env, nil, []string{"canary"}, "vault", "list")
	require.Equal(t, exitUpstream, r.code)
	require.Contains(t, r.err, "try again later")
}

func TestReadMetadata(t *testing.T) {
	path := filepath.Join(t.TempDir(), "m.json")
	file := func(content string) string {
		require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
		return "@" + path
	}
	large := func(size int) string { return `{"a":"` + strings.Repeat("x", size-len(`{"a":""}`)) + `"}` }
	for _, tc := range []struct{ name, text, want string }{
		{"none", "", ""},
		{"an object", ` {"a": 1} `, `{"a":1}`},
		{"an empty object", `{}`, `{}`},
		{"a file", file("\xef\xbb\xbf{\n \"a\": [1]\n}\n"), `{"a":[1]}`},
	} {
		got, err := readMetadata(tc.text)
		require.NoError(t, err, tc.name)
		require.Equal(t, tc.want, string(got), tc.name)
	}
	got, err := readMetadata(file(large(maxMetadata)))
	require.NoError(t, err)
	require.Len(t, got, maxMetadata)
	_, err = readMetadata(file(large(maxMetadata + 1)))
	require.ErrorContains(t, err, "more than 512 KiB")
	for _, text := range []string{`["canary"]`, `"canary"`, "null", "canary", `{"canary"`, `{} canary`, " ", "@"} {
		for _, given := range []string{text, file(text)} {
			_, err := readMetadata(given)
			require.Error(t, err, given)
			require.Equal(t, exitUsage, exitCodeOf(err), given)
			require.NotContains(t, err.Error(), "canary")
		}
	}
}

func TestVaultTime(t *testing.T) {
	for want, moment := range map[string]time.Time{
		`null`:                       {},
		`"2026-01-02T02:04:05.000Z"`: time.Date(2026, 1, 2, 3, 4, 5, 0, time.FixedZone("", 3600)),
		`"2026-01-02T03:04:05.250Z"`: time.Date(2026, 1, 2, 3, 4, 5, 250e6, time.UTC),
	} {
		text, err := json.Marshal(vaultTime{moment})
		require.NoError(t, err)
		require.Equal(t, want, string(text))
		var back vaultTime
		require.NoError(t, json.Unmarshal(text, &back))
		require.True(t, moment.Equal(back.Time))
	}
}

func TestWarningOfASecretThatOthersRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(path, []byte("canary"), 0o600))
	for mode, warned := range map[os.FileMode]bool{0o600: false, 0o640: false, 0o602: false, 0o604: true, 0o644: true, 0o666: true} {
		require.NoError(t, os.Chmod(path, mode))
		var errs strings.Builder
		a := &app{stdio: stdio{err: &errs}}
		_, err := a.readSecret(path, "--token-file")
		require.NoError(t, err)
		require.Equal(t, warned, strings.Contains(errs.String(), "chmod o="), "%o: %s", mode, errs.String())
		require.NotContains(t, errs.String(), "canary")
	}
}

package socketapi

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/grantexd/grantexd/socketapi/wire"
	"github.com/grantexd/grantexd/upstream/secret"
)

func TestRender(t *testing.T) {
	p := Render(testCredential("github"), testFingerprint).payload()
	require.JSONEq(t, `{"accessToken":"`+canary+`","service":"github","credentialType":"oauth2",
		"tokenExpiresAt":"2031-04-05T06:07:08.000Z","metadata":{"login":"octocat"}}`, string(p.json.body))
	require.Equal(t, canary, string(p.text.body), "just the token, without a newline")
	require.Equal(t, []string{fmt.Sprint(len(p.json.body))}, p.json.contentLength)
	require.Equal(t, []string{fmt.Sprint(len(canary))}, p.text.contentLength)
	require.Equal(t, []string{`"` + testFingerprint + `"`}, p.etag)
	require.Equal(t, []string{"Sat, 05 Apr 2031 06:07:08 GMT"}, p.expires)
}

func TestRenderWithoutExpiry(t *testing.T) {
	c := testCredential("github")
	c.TokenExpiresAt = time.Time{}
	c.Metadata = nil
	p := Render(c, "").payload()
	require.Contains(t, string(p.json.body), `"tokenExpiresAt":null`)
	require.Contains(t, string(p.json.body), `"metadata":{}`)
	require.Nil(t, p.expires)
	require.Nil(t, p.etag)
}

func TestRenderKeepsTheTokenOfBrokenMetadata(t *testing.T) {
	c := testCredential("github")
	c.Metadata = json.RawMessage(`{"torn`)
	require.Contains(t, string(Render(c, "").payload().json.body), canary)
}

func TestRenderedNeverPrints(t *testing.T) {
	r := Render(testCredential("github"), testFingerprint)
	type holder struct {
		R      *Rendered
		V      Rendered
		Answer Answer
		hidden *Rendered
		value  Rendered
	}
	h := holder{R: r, V: *r, Answer: Answer{Rendered: r}, hidden: r, value: *r}
	var log bytes.Buffer
	for _, handler := range []slog.Handler{slog.NewTextHandler(&log, nil), slog.NewJSONHandler(&log, nil)} {
		slog.New(handler).Info("x", "r", r, "v", *r, "h", h)
	}
	encoded, err := json.Marshal(h)
	require.NoError(t, err)
	printed := log.String() + string(encoded)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
		printed += fmt.Sprintf(verb+verb+verb+verb, r, *r, h, &h)
	}
	require.Contains(t, printed, secret.Redacted)
	requireNoCanary(t, printed)
}

// requireNoCanary fails if the token, or half of it, is in s in any of the forms
// that Go prints bytes in.
func requireNoCanary(t *testing.T, s string) {
	t.Helper()
	half := canary[:len(canary)/2]
	require.NotContains(t, s, half)
	require.NotContains(t, s, fmt.Sprintf("%x", half))
	require.NotContains(t, s, fmt.Sprintf("%X", half))
	decimal := strings.Trim(fmt.Sprintf("%d", []byte(half)), "[]")
	require.NotContains(t, s, decimal)
}

func TestFreshness(t *testing.T) {
	cases := []struct {
		name             string
		answer           Answer
		noCache          bool
		wantStatus, want string
	}{
		{"fresh", Answer{Hit: true, TTL: 3540 * time.Second, Age: 60 * time.Second}, false,
			"grantexd; hit; ttl=3540", "60"},
		{"just under a second left", Answer{Hit: true, TTL: time.Second - 1, Age: time.Second - 1}, false,
			"grantexd; hit; ttl=0", "0"},
		{"just over its end", Answer{Hit: true, TTL: -1}, false, "grantexd; hit; ttl=-1", "0"},
		{"a whole second over", Answer{Hit: true, TTL: -time.Second}, false, "grantexd; hit; ttl=-1", "0"},
		{"stale", Answer{Hit: true, TTL: -90500 * time.Millisecond}, false, "grantexd; hit; ttl=-91", "0"},
		{"hit in spite of no-cache", Answer{Hit: true, TTL: time.Minute}, true, "grantexd; hit; ttl=60", "0"},
		{"miss", Answer{TTL: time.Hour}, false, "grantexd; fwd=miss; stored; ttl=3600", "0"},
		{"no-cache", Answer{TTL: time.Hour}, true, "grantexd; fwd=request; stored; ttl=3600", "0"},
		{"unconfirmed", Answer{Hit: true, TTL: time.Minute, Unconfirmed: 312 * time.Second}, false,
			`grantexd; hit; ttl=60; detail="grant unconfirmed for 312 s"`, "0"},
		{"a clock that went back", Answer{Hit: true, TTL: time.Minute, Age: -time.Minute}, false,
			"grantexd; hit; ttl=60", "0"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			p := Render(testCredential("github"), testFingerprint).payload()
			f := missFreshness(&c.answer, c.noCache)
			if c.answer.Hit {
				f = p.freshnessOf(&c.answer)
			}
			require.Equal(t, []string{c.wantStatus}, f.cacheStatus)
			require.Equal(t, []string{c.want}, f.ageValue)
		})
	}
}

func TestFreshnessIsSharedWithinASecond(t *testing.T) {
	p := Render(testCredential("github"), testFingerprint).payload()
	first := p.freshnessOf(&Answer{TTL: 10 * time.Second, Age: 5 * time.Second})
	require.Same(t, first, p.freshnessOf(&Answer{TTL: 10*time.Second + 999*time.Millisecond, Age: 5 * time.Second}))
	for name, a := range map[string]Answer{
		"ttl":         {TTL: 9 * time.Second, Age: 5 * time.Second},
		"age":         {TTL: 10 * time.Second, Age: 6 * time.Second},
		"unconfirmed": {TTL: 10 * time.Second, Age: 5 * time.Second, Unconfirmed: time.Second},
	} {
		p.freshness.Store(first)
		require.NotSame(t, first, p.freshnessOf(&a), name)
	}
}

func TestReadOfAHitAllocatesNothing(t *testing.T) {
	a := hit("github")
	p := a.Rendered.payload()
	require.Zero(t, testing.AllocsPerRun(100, func() { p.freshnessOf(&a) }))
}

func TestRenderedNames(t *testing.T) {
	r := Render(wire.Credential{Service: "slack"}, "fp")
	require.Equal(t, "slack", r.Service())
	require.Equal(t, "fp", r.Fingerprint())
}

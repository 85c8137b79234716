package devvault

import (
	"encoding/json"
	"errors"
	"io"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/iotest"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/grantexd/grantexd/upstream/secret"
)

const (
	badName = "service must be 1-64 characters and contain only letters, numbers, dot, underscore, or dash"
	notJSON = "Body is not valid JSON but content-type is set to 'application/json'"
	none    = "-" // no content type
)

// exchangeBodies are bodies of all kinds, and what a good token gets for them.
var exchangeBodies = []struct {
	name, contentType, body string
	status                  int
	message                 string
}{
	{"plain", jsonType, github, 200, ""},
	{"charset", "application/json; charset=utf-8", github, 200, ""},
	{"type in capitals", "Application/JSON", github, 200, ""},
	{"byte order mark", jsonType, "\ufeff" + github, 200, ""},
	{"white space", jsonType, " \r\n\t" + github + "\n", 200, ""},
	{"more members", jsonType, `{"a":[{}],"service":"github","grantToken":1}`, 200, ""},
	{"the last one counts", jsonType, `{"service":"no such","service":"github"}`, 200, ""},
	{"escaped", jsonType, `{"service":"\u0067ithub"}`, 200, ""},
	{"exactly 1 MiB", jsonType, github + strings.Repeat(" ", maxBodyBytes-len(github)), 200, ""},
	{"1 MiB and a byte", jsonType, github + strings.Repeat(" ", maxBodyBytes-len(github)+1), 413, "Request body is too large"},

	{"member in another case", jsonType, `{"Service":"github"}`, 400, "service is required"},
	{"null", jsonType, `{"service":null}`, 400, "service is required"},
	{"empty", jsonType, `{"service":""}`, 400, "service is required"},
	{"false", jsonType, `{"service":false}`, 400, "service is required"},
	{"zero", jsonType, `{"service":0}`, 400, "service is required"},
	{"minus zero", jsonType, `{"service":-0.0}`, 400, "service is required"},
	{"number", jsonType, `{"service":7}`, 500, "An unexpected error occurred"},
	{"true", jsonType, `{"service":true}`, 500, "An unexpected error occurred"},
	{"list", jsonType, `{"service":["github"]}`, 500, "An unexpected error occurred"},
	{"object", jsonType, `{"service":{}}`, 500, "An unexpected error occurred"},
	{"null body", jsonType, ` null `, 500, "An unexpected error occurred"},
	{"no body at all", none, "", 500, "An unexpected error occurred"},
	{"body is a list", jsonType, `["service"]`, 400, "service is required"},
	{"body is a string", jsonType, `"service"`, 400, "service is required"},
	{"body is a number", jsonType, `1`, 400, "service is required"},
	{"text", "text/plain", github, 400, "service is required"},

	{"longest name", jsonType, `{"service":"` + strings.Repeat("a", 64) + `"}`, 404, "No credential found for this principal and service"},
	{"name too long", jsonType, `{"service":"` + strings.Repeat("a", 65) + `"}`, 400, badName},
	{"name of one letter", jsonType, `{"service":"a"}`, 404, "No credential found for this principal and service"},
	{"name with all signs", jsonType, `{"service":"9a.b_c-D"}`, 404, "No credential found for this principal and service"},
	{"name starts with a dot", jsonType, `{"service":".a"}`, 400, badName},
	{"name with a slash", jsonType, `{"service":"a/b"}`, 400, badName},
	{"name with a newline", jsonType, `{"service":"github\n"}`, 400, badName},
	{"name in another script", jsonType, `{"service":"gïthub"}`, 400, badName},

	{"empty body", jsonType, "", 400, "Body cannot be empty when content-type is set to 'application/json'"},
	{"white space only", jsonType, "  ", 400, notJSON},
	{"cut off", jsonType, `{"service":"git`, 400, notJSON},
	{"two objects", jsonType, github + github, 400, notJSON},
	{"nested without end", jsonType, strings.Repeat("[", 20_000), 400, notJSON},
	{"comma too many", jsonType, `{"service":"github",}`, 400, notJSON},
	{"form", "application/x-www-form-urlencoded", "service=github", 415, "Unsupported Media Type"},
	{"no content type", none, github, 415, "Unsupported Media Type"},
	{"almost JSON", "application/jsonx", github, 415, "Unsupported Media Type"},
	{"broken content type", "application/json;;", github, 415, "Unsupported Media Type"},
	{"other JSON", "application/problem+json", github, 415, "Unsupported Media Type"},
}

func TestExchangeBodies(t *testing.T) {
	s := newVault(t, Options{RateLimit: -1})
	_, err := s.Store(CredentialParams{Service: "github", AccessToken: secret.New("made-up")})
	require.NoError(t, err)
	token := mint(t, s, MintParams{})
	for _, tc := range exchangeBodies {
		t.Run(tc.name, func(t *testing.T) {
			r := newRequest("POST", pathExchange, tc.body)
			r.Header.Set("Authorization", "Bearer "+token)
			if tc.contentType != none {
				r.Header.Set("Content-Type", tc.contentType)
			}
			got := record(s.Handler(), r)
			require.Equal(t, tc.status, got.status, got.body)
			require.Equal(t, tc.message, got.message(t))
		})
	}
}

// TestBodyWithoutLength reads a body of unknown length up to the limit.
func TestBodyWithoutLength(t *testing.T) {
	s := newVault(t, Options{})
	r := httptest.NewRequest("POST", pathExchange, io.LimitReader(neverEnding(' '), 2*maxBodyBytes))
	r.Header.Set("Content-Type", jsonType)
	require.EqualValues(t, -1, r.ContentLength)
	require.Equal(t, 413, record(s.Handler(), r).status)
}

type neverEnding byte

func (b neverEnding) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(b)
	}
	return len(p), nil
}

// TestCallerLeavesInItsBody: what never arrived whole was no call.
func TestCallerLeavesInItsBody(t *testing.T) {
	s := newVault(t, Options{})
	r := httptest.NewRequest("POST", pathExchange, iotest.ErrReader(errors.New("connection lost")))
	got := record(s.Handler(), r)
	require.Empty(t, got.body)
	require.Zero(t, s.Exchanges().Total)
}

func TestParseExpiry(t *testing.T) {
	day := time.Date(2031, 2, 3, 0, 0, 0, 0, time.UTC)
	cases := []struct {
		in   string
		want time.Time
		ok   bool
	}{
		{`"2031-02-03T04:05:06Z"`, day.Add(4*time.Hour + 5*time.Minute + 6*time.Second), true},
		{`"2031-02-03T04:05:06.789999Z"`, day.Add(4*time.Hour + 5*time.Minute + 6*time.Second + 789*time.Millisecond), true},
		{`"2031-02-03T04:05:06-02:30"`, day.Add(6*time.Hour + 35*time.Minute + 6*time.Second), true},
		{`"2031-02-03T04:05Z"`, day.Add(4*time.Hour + 5*time.Minute), true},
		{`"2031-02-03T04:05:06"`, day.Add(4*time.Hour + 5*time.Minute + 6*time.Second), true},
		{`"2031-02-03T04:05"`, day.Add(4*time.Hour + 5*time.Minute), true},
		{`"2031-02-03"`, day, true},
		{`1927843200000`, day, true},
		{`0`, time.Unix(0, 0).UTC(), true},
		{`8.64e15`, time.UnixMilli(8.64e15).UTC(), true},
		{`8.65e15`, time.Time{}, false},
		{`1e300`, time.Time{}, false},
		{`""`, time.Time{}, false},
		{`"tomorrow"`, time.Time{}, false},
		{`"2031-02-30"`, time.Time{}, false},
		{`"24h"`, time.Time{}, false},
		{`true`, time.Time{}, false},
		{`{}`, time.Time{}, false},
	}
	for _, tc := range cases {
		t.Run(tc.in, func(t *testing.T) {
			got, ok := parseExpiry(json.RawMessage(tc.in))
			require.Equal(t, tc.ok, ok)
			if ok {
				require.Equal(t, tc.want, got)
			}
		})
	}
}

// FuzzExchangeBody sends any body with any content type: the vault has one of
// its answers to it, and says JSON in its error shape.
func FuzzExchangeBody(f *testing.F) {
	for _, body := range []string{
		github, `{}`, `null`, `[]`, `"x"`, `1`, ``, `{"service":`, `{"service":7}`, `{"service":null}`,
		`{"Service":"github"}`, "\ufeff{}", `{"service":"a/b"}`, `{"service":"\ud800"}`, "{\"service\":\"\xff\"}",
		`{"service":{"service":"github"}}`, `{"service":-0}`, `{"service":1e999}`,
	} {
		f.Add(jsonType, body)
	}
	f.Add("text/plain; charset=\"", github)
	f.Add("", github)
	s, err := New(Options{SigningKey: sharedKey(), RateLimit: -1})
	require.NoError(f, err)
	require.NoError(f, s.Seed())
	secretToken, _, err := s.Mint(MintParams{})
	require.NoError(f, err)
	token := secretToken.Reveal()
	allowed := map[int]bool{200: true, 400: true, 404: true, 413: true, 415: true, 500: true}
	f.Fuzz(func(t *testing.T, contentType, body string) {
		r := newRequest("POST", pathExchange, body)
		r.Header.Set("Authorization", "Bearer "+token)
		r.Header.Set("Content-Type", contentType)
		got := record(s.Handler(), r)
		require.True(t, allowed[got.status], got.status)
		require.True(t, json.Valid([]byte(got.body)))
		require.True(t, utf8.ValidString(got.body))
		if got.status == 200 {
			require.Equal(t, 200, askFor(s, token, got.member(t, "service")).status)
			return
		}
		var shape errorBody
		require.NoError(t, decodeStrictly([]byte(got.body), &shape))
		require.NotEmpty(t, shape.Message)
		require.Regexp(t, `^[0-9a-f-]{36}$`, shape.RequestID)
	})
}

package upstream_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/grantexd/grantexd/upstream"
	"github.com/grantexd/grantexd/upstream/secret"
)

// answerTo makes an exchange that is answered so, and returns the error.
func answerTo(t *testing.T, status int, body string, header ...string) *upstream.Error {
	t.Helper()
	c := newFakeClient(t, func(r *http.Request) (*http.Response, error) {
		return respond(r, status, strings.NewReader(body), header...), nil
	})
	_, err := c.Exchange(t.Context(), grant, "github")
	var got *upstream.Error
	require.ErrorAs(t, err, &got)
	require.NotContains(t, err.Error(), "canary")
	return got
}

// Only a body of the vault's shape has a say.
func TestErrorShape(t *testing.T) {
	for _, tt := range []struct{ name, body, code, message, id string }{
		{"the vault's", `{"message":"m","code":"C","requestId":"r-1"}`, "C", "m", "r-1"},
		{"without an id", `{"message":"m","code":"C"}`, "C", "m", ""},
		{"with more", `{"message":"m","code":"C","requestId":"r","extra":{"a":1}}`, "C", "m", "r"},
		{"id of another type", `{"message":"m","code":"C","requestId":7}`, "C", "m", ""},
		{"id with a line break", `{"message":"m","code":"C","requestId":"a\nb"}`, "C", "m", ""},
		{"id that is too long", `{"message":"m","code":"C","requestId":"` + strings.Repeat("i", 65) + `"}`, "C", "m", ""},
		{"longest id", `{"message":"m","code":"C","requestId":"` + strings.Repeat("i", 64) + `"}`, "C", "m", strings.Repeat("i", 64)},
		{"control characters", `{"message":"a\u0000b\r\n\u001b[31mc\u202e","code":"C"}`, "C", "a b   [31mc", ""},
		{"message of 200 bytes", `{"message":"` + strings.Repeat("x", 200) + `","code":"C"}`, "C", strings.Repeat("x", 200), ""},
		{"message of 201 bytes", `{"message":"` + strings.Repeat("x", 201) + `","code":"C"}`, "C", strings.Repeat("x", 197) + "…", ""},
		{"message cut between characters", `{"message":"` + strings.Repeat("é", 101) + `","code":"C"}`, "C", strings.Repeat("é", 98) + "…", ""},

		{"no message", `{"code":"C","requestId":"r"}`, "", "", ""},
		{"no code", `{"message":"m","requestId":"r"}`, "", "", ""},
		{"empty code", `{"message":"m","code":"","requestId":"r"}`, "", "", ""},
		{"code that is a number", `{"message":"canary","code":7,"requestId":"r"}`, "", "", ""},
		{"code of words", `{"message":"canary","code":"a b","requestId":"r"}`, "", "", ""},
		{"message that is an object", `{"message":{"a":"canary"},"code":"C"}`, "", "", ""},
		{"proxy", `<html>canary`, "", "", ""},
		{"cut off", `{"message":"canary","code":"C"`, "", "", ""},
		{"list", `["canary"]`, "", "", ""},
		{"null", `null`, "", "", ""},
		{"empty", ``, "", "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := answerTo(t, 400, tt.body)
			require.Equal(t, upstream.Error{
				Status: 400, Code: tt.code, Message: tt.message, RequestID: tt.id, URL: "https://vault.test/v1/vault/credentials/exchange",
			}, *got)
		})
	}
}

func TestErrorRedactsWhatWasSent(t *testing.T) {
	segments := strings.Split(grantToken, ".")
	for _, tt := range []struct{ name, message, want string }{
		{"the token", "bad token " + grantToken + "!", "bad token [redacted]!"},
		{"twice", grantToken + " " + grantToken, "[redacted] [redacted]"},
		{"its signature", "bad signature " + segments[2], "bad signature [redacted]"},
		{"its claims", segments[1] + " are wrong", "[redacted] are wrong"},
		{"where the message is cut", strings.Repeat("x", 190) + grantToken, strings.Repeat("x", 190) + "[redacted]"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := answerTo(t, 400, `{"message":"`+tt.message+`","code":"C","requestId":"r"}`)
			require.Equal(t, tt.want, got.Message)
		})
	}
	t.Run("in code and id", func(t *testing.T) {
		got := answerTo(t, 400, `{"message":"m","code":"`+grantToken+`","requestId":"`+grantToken+`"}`)
		require.NotContains(t, got.Code+got.RequestID, "canary")
	})
	t.Run("what is stored", func(t *testing.T) {
		c := newFakeClient(t, func(r *http.Request) (*http.Response, error) {
			return respond(r, 400, strings.NewReader(`{"message":"no canary_a, canary_r, `+apiKey+`","code":"C"}`)), nil
		})
		_, err := c.Store(t.Context(), upstream.StoreParams{PrincipalID: "p", Service: "s",
			AccessToken: secret.New("canary_a"), RefreshToken: secret.New("canary_r")})
		var got *upstream.Error
		require.ErrorAs(t, err, &got)
		require.Equal(t, "no [redacted], [redacted], [redacted]", got.Message)
	})
}

func TestErrorRetryAfter(t *testing.T) {
	const date = "Mon, 07 Dec 2026 09:30:00 GMT"
	for _, tt := range []struct {
		name   string
		status int
		header []string
		want   time.Duration
	}{
		{"seconds", 429, []string{"Retry-After", "40", "X-Ratelimit-Reset", "60"}, 40 * time.Second},
		{"date", 429, []string{"Retry-After", "Mon, 07 Dec 2026 09:30:50 GMT", "Date", date}, 50 * time.Second},
		{"reset on 429", 429, []string{"X-Ratelimit-Reset", "60"}, time.Minute},
		{"garbage and reset", 429, []string{"Retry-After", "soon", "X-Ratelimit-Reset", "60"}, time.Minute},
		{"negative and reset", 429, []string{"Retry-After", "-5", "X-Ratelimit-Reset", "60"}, time.Minute},
		{"absurd reset", 429, []string{"X-Ratelimit-Reset", "1796635815"}, 0},
		{"negative reset", 429, []string{"X-Ratelimit-Reset", "-1"}, 0},
		{"nothing", 429, nil, 0},
		{"500 with seconds", 500, []string{"Retry-After", "7"}, 7 * time.Second},
		{"503 with seconds", 503, []string{"Retry-After", "7"}, 7 * time.Second},
		{"reset means nothing elsewhere", 500, []string{"X-Ratelimit-Reset", "60"}, 0},
		{"reset means nothing on 404", 404, []string{"X-Ratelimit-Limit", "20", "X-Ratelimit-Remaining", "3", "X-Ratelimit-Reset", "60"}, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			require.Equal(t, tt.want, answerTo(t, tt.status, "", tt.header...).RetryAfter)
		})
	}
}

func TestGrantRejected(t *testing.T) {
	for _, tt := range []struct {
		name string
		err  upstream.Error
		want bool
	}{
		{"the vault's", upstream.Error{Status: 401, Code: "UNAUTHORIZED", Message: "Invalid or expired grant token", RequestID: "r"}, true},
		{"in other words", upstream.Error{Status: 401, Code: "UNAUTHORIZED", Message: "Grant revoked", RequestID: "r"}, true},
		{"wrong path", upstream.Error{Status: 401, Code: "UNAUTHORIZED", Message: "Invalid API key", RequestID: "r"}, false},
		{"header lost", upstream.Error{Status: 401, Code: "UNAUTHORIZED", Message: "Missing grant token", RequestID: "r"}, false},
		{"another shape", upstream.Error{Status: 401}, false},
		{"another code", upstream.Error{Status: 401, Code: "DENIED", Message: "m", RequestID: "r"}, false},
		{"no id", upstream.Error{Status: 401, Code: "UNAUTHORIZED", Message: "m"}, false},
		{"403", upstream.Error{Status: 403, Code: "UNAUTHORIZED", Message: "m", RequestID: "r"}, false},
	} {
		require.Equal(t, tt.want, tt.err.GrantRejected(), tt.name)
	}
}

func TestErrorTexts(t *testing.T) {
	require.Equal(t, "vault answered 404 NOT_FOUND: none here",
		(&upstream.Error{Status: 404, Code: "NOT_FOUND", Message: "none here"}).Error())
	require.Equal(t, "vault answered 502 at https://v/x with a body that is not the vault's",
		(&upstream.Error{Status: 502, URL: "https://v/x"}).Error())
	require.Equal(t, "vault answered 200 at https://v/x with a body that is not a credential: it is not UTF-8",
		(&upstream.MalformedError{URL: "https://v/x", Reason: "it is not UTF-8"}).Error())
	require.Equal(t, "no slot in the budget for 42s", (&upstream.NoSlotError{Wait: 42*time.Second + 1}).Error())
}

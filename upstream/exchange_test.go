package upstream_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/grantexd/grantexd/upstream"
	"github.com/grantexd/grantexd/upstream/secret"
)

func TestExchangeRequest(t *testing.T) {
	v := replay(t, "exchange-200-expiry")
	_, err := newClient(t, v.URL).Exchange(t.Context(), grant, "github")
	require.NoError(t, err)
	r := v.only(t)
	require.Equal(t, "POST", r.method)
	require.Equal(t, "/v1/vault/credentials/exchange", r.path)
	require.Empty(t, r.query)
	require.Equal(t, `{"service":"github"}`, r.body)
	require.Equal(t, []string{"Bearer " + grantToken}, r.header["Authorization"])
	require.Equal(t, []string{"application/json"}, r.header["Content-Type"])
	require.Equal(t, []string{"grantexd"}, r.header["User-Agent"])
	require.NotContains(t, r.header, "Accept-Encoding", "the limit on a body is one on what comes")
}

func TestExchangeSucceeds(t *testing.T) {
	date := time.Date(2026, 12, 7, 9, 30, 15, 0, time.UTC)
	for _, tt := range []struct {
		fixture, service, token, kind, metadata string
		expires                                 time.Time
	}{
		{fixture: "exchange-200-expiry", service: "github", token: "gho_fixture_github",
			metadata: `{"login":"monalisa","scopes":["repo","gist"]}`,
			expires:  time.Date(2026, 12, 7, 17, 30, 15, 250e6, time.UTC)},
		{fixture: "exchange-200-null-expiry", service: "slack", token: "xoxb-fixture", kind: "api_key", metadata: `{}`},
		{fixture: "exchange-200-past-expiry", service: "lapsed", token: "gho_fixture_lapsed", metadata: `{}`,
			expires: time.Date(2026, 12, 7, 8, 30, 15, 0, time.UTC)},
		{fixture: "exchange-200-metadata-object", service: "obj", token: "gho_fixture_obj",
			metadata: `{"n":{"k":1},"login":"monalisa"}`},
		{fixture: "exchange-200-metadata-string-array", service: "arr", token: "gho_fixture_arr", metadata: `{"value":[3,4]}`},
		{fixture: "exchange-200-metadata-string-string", service: "str", token: "gho_fixture_str", metadata: `{"value":"bare"}`},
		{fixture: "exchange-200-metadata-string-nested", service: "nested", token: "gho_fixture_nested",
			metadata: `{"x":{"y":[1,{"z":null}]},"é":"☃"}`},
	} {
		t.Run(tt.fixture, func(t *testing.T) {
			if tt.kind == "" {
				tt.kind = "oauth2"
			}
			got, err := newClient(t, replay(t, tt.fixture).URL).Exchange(t.Context(), grant, tt.service)
			require.NoError(t, err)
			require.Equal(t, &upstream.Credential{
				AccessToken: secret.New(tt.token), Service: tt.service, CredentialType: tt.kind,
				TokenExpiresAt: tt.expires, Metadata: json.RawMessage(tt.metadata), Date: date,
			}, got)
		})
	}
}

// The service and the credential come back the same if nothing was renewed.
func TestExchangeAgainReturnsTheSame(t *testing.T) {
	c := newClient(t, replay(t, "exchange-200-expiry").URL)
	first, err := c.Exchange(t.Context(), grant, "github")
	require.NoError(t, err)
	again, err := c.Exchange(t.Context(), grant, "github")
	require.NoError(t, err)
	require.Equal(t, first, again)
}

// Every row of the exchange's table of errors. None of them is worth a retry.
func TestExchangeErrors(t *testing.T) {
	for _, tt := range []struct {
		name, fixture string
		status        int
		code, message string
		retryAfter    time.Duration
		rejected      bool
	}{
		{name: "400 service missing", fixture: "exchange-400-missing-service", status: 400, code: "BAD_REQUEST",
			message: "service is required"},
		{name: "400 bad service name", fixture: "exchange-400-bad-service-name", status: 400, code: "BAD_REQUEST",
			message: "service must be 1-64 characters and contain only letters, numbers, dot, underscore, or dash"},
		{name: "400 malformed JSON", fixture: "exchange-400-malformed-json", status: 400, code: "BAD_REQUEST",
			message: "Body is not valid JSON but content-type is set to 'application/json'"},
		{name: "400 empty body", fixture: "exchange-400-empty-body", status: 400, code: "BAD_REQUEST",
			message: "Body cannot be empty when content-type is set to 'application/json'"},
		{name: "401 no header", fixture: "exchange-401-no-header", status: 401, code: "UNAUTHORIZED",
			message: "Missing grant token"},
		{name: "401 grant rejected", fixture: "exchange-401-rejected", status: 401, code: "UNAUTHORIZED",
			message: "Invalid or expired grant token", rejected: true},
		{name: "401 wrong path", fixture: "exchange-401-wrong-path", status: 401, code: "UNAUTHORIZED",
			message: "Invalid API key"},
		{name: "403 scopes", fixture: "exchange-403-scope", status: 403, code: "FORBIDDEN",
			message: "Grant token is not scoped for github credential exchange"},
		{name: "404 no credential", fixture: "exchange-404", status: 404, code: "NOT_FOUND",
			message: "No credential found for this principal and service"},
		{name: "413 body too large", fixture: "exchange-413", status: 413, code: "BAD_REQUEST",
			message: "Request body is too large"},
		{name: "415 wrong content type", fixture: "exchange-415", status: 415, code: "BAD_REQUEST",
			message: "Unsupported Media Type"},
		{name: "429 rate limit", fixture: "exchange-429", status: 429, code: "BAD_REQUEST",
			message: "Rate limit exceeded, retry in 33 seconds", retryAfter: 33 * time.Second},
		{name: "431 token too long", fixture: "exchange-431", status: 431},
		{name: "500 database down", fixture: "exchange-500", status: 500, code: "INTERNAL_ERROR",
			message: "An unexpected error occurred"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v := replay(t, tt.fixture)
			cred, err := newClient(t, v.URL).Exchange(t.Context(), grant, "github")
			require.Nil(t, cred)
			var got *upstream.Error
			require.ErrorAs(t, err, &got)
			v.only(t)
			require.Equal(t, tt.rejected, got.GrantRejected())
			require.Equal(t, tt.code != "", strings.HasPrefix(got.RequestID, "7f0c5e1a-"), "request id %q", got.RequestID)
			require.Equal(t, tt.status != 431, got.Date.Equal(time.Date(2026, 12, 7, 9, 30, 15, 0, time.UTC)), "date %s", got.Date)
			want := upstream.Error{
				Status: tt.status, Code: tt.code, Message: tt.message, RetryAfter: tt.retryAfter,
				URL: v.URL + "/v1/vault/credentials/exchange", RequestID: got.RequestID, Date: got.Date,
			}
			require.Equal(t, want, *got)
		})
	}
}

func TestExchangeSendsNothingInVain(t *testing.T) {
	for _, tt := range []struct {
		name, token, service string
		want                 error
	}{
		{"no token", "", "github", upstream.ErrNoToken},
		{"token with a line break", "canary\r\nX-Evil: 1", "github", upstream.ErrNoToken},
		{"token with a space", "canary two", "github", upstream.ErrNoToken},
		{"token that is not ASCII", "canaryé", "github", upstream.ErrNoToken},
		{"token with DEL", "canary\x7f", "github", upstream.ErrNoToken},
		{"no service", grantToken, "", upstream.ErrInvalidService},
		{"service with a slash", grantToken, "a/b", upstream.ErrInvalidService},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v := replay(t, "exchange-200-expiry")
			_, err := newClient(t, v.URL).Exchange(t.Context(), secret.New(tt.token), tt.service)
			require.ErrorIs(t, err, tt.want)
			require.NotContains(t, err.Error(), "canary")
			require.Empty(t, v.seen())
		})
	}
}

func TestExchangeSpelling(t *testing.T) {
	body := `{"accessToken":"t","service":"GitHub","credentialType":"x"}`
	c := newFakeClient(t, func(r *http.Request) (*http.Response, error) {
		return respond(r, 200, strings.NewReader(body), "X-Request-Id", "gw-1"), nil
	})
	got, err := c.Exchange(t.Context(), grant, "github")
	require.NoError(t, err, "a vault that spells the name its own way answers for the same service")
	require.Equal(t, "GitHub", got.Service)
	require.Equal(t, "gw-1", got.RequestID)
	_, err = c.Exchange(t.Context(), grant, "gitlab")
	var malformed *upstream.MalformedError
	require.ErrorAs(t, err, &malformed)
}

func TestExchangeMalformed(t *testing.T) {
	for _, tt := range []struct{ name, body, reason string }{
		{"empty", ``, "not JSON"},
		{"cut off", `{"accessToken":"` + accessToken, "not JSON"},
		{"followed by something", `{"accessToken":"` + accessToken + `","service":"github"}x`, "not JSON"},
		{"HTML", `<html>` + accessToken, "not JSON"},
		{"not UTF-8", "{\"accessToken\":\"" + accessToken + "\xff\",\"service\":\"github\"}", "not UTF-8"},
		{"null", `null`, "not a JSON object"},
		{"a list", `["` + accessToken + `"]`, "not a JSON object"},
		{"a string", `"` + accessToken + `"`, "not a JSON object"},
		{"no token", `{"service":"github"}`, "accessToken is missing or empty"},
		{"null token", `{"accessToken":null,"service":"github"}`, "accessToken is missing or empty"},
		{"empty token", `{"accessToken":"","service":"github"}`, "accessToken is missing or empty"},
		{"token under another case", `{"AccessToken":"` + accessToken + `","service":"github"}`, "accessToken is missing or empty"},
		{"token that is a number", `{"accessToken":7,"service":"github"}`, "accessToken is not a string"},
		{"token that is an object", `{"accessToken":{"a":"` + accessToken + `"},"service":"github"}`, "accessToken is not a string"},
		{"no service", `{"accessToken":"` + accessToken + `"}`, "service is missing or empty"},
		{"other service", `{"accessToken":"` + accessToken + `","service":"slack"}`, "another service"},
		{"type that is a list", `{"accessToken":"` + accessToken + `","service":"github","credentialType":["a"]}`, "credentialType is not a string"},
		{"expiry that is a number", `{"accessToken":"` + accessToken + `","service":"github","tokenExpiresAt":1796635815}`, "tokenExpiresAt is not a string"},
		{"expiry that is a word", `{"accessToken":"` + accessToken + `","service":"github","tokenExpiresAt":"canary"}`, "tokenExpiresAt is not a date"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			calls := 0
			c := newFakeClient(t, func(r *http.Request) (*http.Response, error) {
				calls++
				return respond(r, 200, strings.NewReader(tt.body)), nil
			})
			cred, err := c.Exchange(t.Context(), grant, "github")
			require.Nil(t, cred)
			var malformed *upstream.MalformedError
			require.ErrorAs(t, err, &malformed)
			require.Contains(t, malformed.Reason, tt.reason)
			require.Equal(t, "https://vault.test/v1/vault/credentials/exchange", malformed.URL)
			require.NotContains(t, err.Error(), "canary")
			require.Equal(t, 1, calls, "a malformed answer is not worth a retry")
		})
	}
}

// What a 2xx other than 200 means nobody has said.
func TestExchangeOtherSuccess(t *testing.T) {
	for _, status := range []int{201, 202, 204, 206} {
		c := newFakeClient(t, func(r *http.Request) (*http.Response, error) {
			return respond(r, status, strings.NewReader(`{"accessToken":"t","service":"github"}`)), nil
		})
		_, err := c.Exchange(t.Context(), grant, "github")
		var got *upstream.Error
		require.ErrorAs(t, err, &got, "status %d", status)
		require.Equal(t, status, got.Status)
	}
}

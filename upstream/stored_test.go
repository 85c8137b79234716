package upstream_test

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/grantexd/grantexd/upstream"
	"github.com/grantexd/grantexd/upstream/secret"
)

const fixtureID = "vault_01KX9FIXTURE0000000000001"

// github is the credential of the fixtures.
var github = upstream.StoredCredential{
	ID: fixtureID, PrincipalID: "user_fixture", Service: "github", CredentialType: "oauth2",
	TokenExpiresAt: time.Date(2026, 12, 7, 17, 30, 15, 250e6, time.UTC),
	Metadata:       json.RawMessage(`{"login":"monalisa"}`),
	CreatedAt:      time.Date(2026, 12, 7, 9, 30, 11, 101e6, time.UTC),
	UpdatedAt:      time.Date(2026, 12, 7, 9, 30, 14, 202e6, time.UTC),
}

// requireSigned checks what all of the developer's calls have in common.
func requireSigned(t *testing.T, r request) {
	t.Helper()
	require.Equal(t, []string{"Bearer " + apiKey}, r.header["Authorization"])
	if r.body == "" {
		require.NotContains(t, r.header, "Content-Type", "the vault refuses one with nothing behind it")
	}
}

func TestStore(t *testing.T) {
	zone := time.FixedZone("", 5*3600+1800)
	full := upstream.StoreParams{
		PrincipalID: "user_fixture", Service: "github", AccessToken: secret.New("canary_access"), CredentialType: "oauth2",
		RefreshToken: secret.New("canary_refresh"), TokenExpiresAt: time.Date(2026, 12, 7, 23, 0, 15, 250999999, zone),
		Metadata: json.RawMessage(` { "n" : 12345678901234567890.10 } `),
	}
	least := upstream.StoreParams{PrincipalID: "user_fixture", Service: "github", AccessToken: secret.New("canary_access")}
	for _, tt := range []struct {
		name   string
		params upstream.StoreParams
		sent   string
	}{
		{"all parameters", full, `{"principalId":"user_fixture","service":"github","accessToken":"canary_access",` +
			`"credentialType":"oauth2","refreshToken":"canary_refresh","tokenExpiresAt":"2026-12-07T17:30:15.250Z",` +
			`"metadata":{"n":12345678901234567890.10}}`},
		{"required parameters", least, `{"principalId":"user_fixture","service":"github","accessToken":"canary_access"}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v := replay(t, "store-201")
			got, err := newClient(t, v.URL).Store(t.Context(), tt.params)
			require.NoError(t, err)
			require.Equal(t, &upstream.StoreResult{ID: fixtureID, PrincipalID: "user_fixture", Service: "github",
				CredentialType: "oauth2", CreatedAt: github.CreatedAt}, got)
			r := v.only(t)
			requireSigned(t, r)
			require.Equal(t, "POST", r.method)
			require.Equal(t, "/v1/vault/credentials", r.path)
			require.Equal(t, []string{"application/json"}, r.header["Content-Type"])
			require.Equal(t, tt.sent, r.body)
		})
	}
}

// Storing again for the same principal and service gives the same id.
func TestStoreAgain(t *testing.T) {
	c := newClient(t, replay(t, "store-201").URL)
	p := upstream.StoreParams{PrincipalID: "user_fixture", Service: "github", AccessToken: secret.New("a")}
	first, err := c.Store(t.Context(), p)
	require.NoError(t, err)
	p.AccessToken = secret.New("b")
	again, err := c.Store(t.Context(), p)
	require.NoError(t, err)
	require.Equal(t, first, again)
}

func TestStoreChecksBeforeSending(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*upstream.StoreParams)
		says   string
	}{
		{"no principal", func(p *upstream.StoreParams) { p.PrincipalID = "" }, "principal is missing"},
		{"no service", func(p *upstream.StoreParams) { p.Service = "" }, "a service's name is"},
		{"bad service", func(p *upstream.StoreParams) { p.Service = "a b" }, "a service's name is"},
		{"no token", func(p *upstream.StoreParams) { p.AccessToken = secret.Text{} }, "access token is missing"},
		{"token that is not UTF-8", func(p *upstream.StoreParams) { p.AccessToken = secret.New("canary\xff") }, "not UTF-8"},
		{"refresh token that is not UTF-8", func(p *upstream.StoreParams) { p.RefreshToken = secret.New("canary\xff") }, "not UTF-8"},
		{"expiry after 9999", func(p *upstream.StoreParams) { p.TokenExpiresAt = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) }, "years 1 to 9999"},
		{"expiry before 1", func(p *upstream.StoreParams) { p.TokenExpiresAt = time.Date(0, 12, 31, 0, 0, 0, 0, time.UTC) }, "years 1 to 9999"},
		{"metadata that is a list", func(p *upstream.StoreParams) { p.Metadata = json.RawMessage(`["canary"]`) }, "must be a JSON object"},
		{"metadata that is null", func(p *upstream.StoreParams) { p.Metadata = json.RawMessage(`null`) }, "must be a JSON object"},
		{"metadata that is cut off", func(p *upstream.StoreParams) { p.Metadata = json.RawMessage(`{"canary`) }, "must be a JSON object"},
		{"metadata that is blank", func(p *upstream.StoreParams) { p.Metadata = json.RawMessage(` `) }, "must be a JSON object"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v := replay(t, "store-201")
			p := upstream.StoreParams{PrincipalID: "p", Service: "s", AccessToken: secret.New("a"), Metadata: json.RawMessage(`{}`)}
			tt.change(&p)
			_, err := newClient(t, v.URL).Store(t.Context(), p)
			require.ErrorContains(t, err, tt.says)
			require.NotContains(t, err.Error(), "canary")
			require.Empty(t, v.seen())
		})
	}
}

func TestStoreMalformedAnswer(t *testing.T) {
	for body, reason := range map[string]string{
		`{"id":"","principalId":"p","service":"s"}`:                       "id is missing or empty",
		`{"id":"i","service":"s"}`:                                        "principalId is missing or empty",
		`{"id":"i","principalId":"p","service":3}`:                        "service is not a string",
		`{"id":"i","principalId":"p","service":"s","createdAt":"canary"}`: "createdAt is not a date and time of RFC 3339",
	} {
		c := newFakeClient(t, func(r *http.Request) (*http.Response, error) {
			return respond(r, 201, strings.NewReader(body)), nil
		})
		_, err := c.Store(t.Context(), upstream.StoreParams{PrincipalID: "p", Service: "s", AccessToken: secret.New("a")})
		var malformed *upstream.MalformedError
		require.ErrorAs(t, err, &malformed)
		require.Equal(t, reason, malformed.Reason)
	}
}

func TestList(t *testing.T) {
	slack := upstream.StoredCredential{
		ID: "vault_01KX9FIXTURE0000000000000", PrincipalID: "user_fixture", Service: "slack", CredentialType: "api_key",
		Metadata:  json.RawMessage(`{}`),
		CreatedAt: time.Date(2026, 12, 6, 9, 30, 11, 101e6, time.UTC), UpdatedAt: time.Date(2026, 12, 6, 9, 30, 11, 101e6, time.UTC),
	}
	for _, tt := range []struct {
		name, fixture, query string
		params               upstream.ListParams
		want                 []upstream.StoredCredential
	}{
		{"all, newest first", "list-200", "", upstream.ListParams{}, []upstream.StoredCredential{github, slack}},
		{"none", "list-200-empty", "", upstream.ListParams{}, []upstream.StoredCredential{}},
		{"of a principal", "list-200", "principalId=user+%26%3D1", upstream.ListParams{PrincipalID: "user &=1"}, []upstream.StoredCredential{github, slack}},
		{"of a service", "list-200", "service=github", upstream.ListParams{Service: "github"}, []upstream.StoredCredential{github, slack}},
		{"of both", "list-200", "principalId=u&service=s", upstream.ListParams{PrincipalID: "u", Service: "s"}, []upstream.StoredCredential{github, slack}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v := replay(t, tt.fixture)
			got, err := newClient(t, v.URL).List(t.Context(), tt.params)
			require.NoError(t, err)
			require.Equal(t, tt.want, got)
			r := v.only(t)
			requireSigned(t, r)
			require.Equal(t, "GET", r.method)
			require.Equal(t, "/v1/vault/credentials", r.path)
			require.Equal(t, tt.query, r.query)
		})
	}
}

func TestListMalformedAnswer(t *testing.T) {
	for body, reason := range map[string]string{
		`{}`:                       "credentials is not a list",
		`{"credentials":null}`:     "credentials is not a list",
		`{"credentials":{}}`:       "credentials is not a list",
		`[]`:                       "it is not a JSON object",
		`{"credentials":[1]}`:      "it is not a JSON object",
		`{"credentials":[null]}`:   "it is not a JSON object",
		`{"credentials":[{}]}`:     "id is missing or empty",
		`{"credentials":["canary`:  "it is not JSON, or was cut off; a proxy or a login page in between may have answered",
		`{"credentials":[{"id":`:   "it is not JSON, or was cut off; a proxy or a login page in between may have answered",
		`{"credentials":"canary"}`: "credentials is not a list",
	} {
		c := newFakeClient(t, func(r *http.Request) (*http.Response, error) {
			return respond(r, 200, strings.NewReader(body)), nil
		})
		_, err := c.List(t.Context(), upstream.ListParams{})
		var malformed *upstream.MalformedError
		require.ErrorAs(t, err, &malformed, "%s", body)
		require.Equal(t, reason, malformed.Reason, "%s", body)
	}
}

func TestGet(t *testing.T) {
	v := replay(t, "get-200")
	got, err := newClient(t, v.URL).Get(t.Context(), fixtureID)
	require.NoError(t, err)
	require.Equal(t, &github, got)
	r := v.only(t)
	requireSigned(t, r)
	require.Equal(t, "GET", r.method)
	require.Equal(t, "/v1/vault/credentials/"+fixtureID, r.path)
}

func TestDelete(t *testing.T) {
	v := replay(t, "delete-204")
	require.NoError(t, newClient(t, v.URL).Delete(t.Context(), fixtureID))
	r := v.only(t)
	requireSigned(t, r)
	require.Equal(t, "DELETE", r.method)
	require.Equal(t, "/v1/vault/credentials/"+fixtureID, r.path)
	require.Empty(t, r.body)
}

// A 404 after a lost answer means that the first attempt did it; a 404 at the
// first attempt means that there was nothing to delete.
func TestDeleteAfterLostAnswer(t *testing.T) {
	lost := []byte("HTTP/1.1 204 No")
	gone := func(t *testing.T) []byte { return readFixture(t, "delete-404") }
	require.NoError(t, newClient(t, serve(t, lost, gone(t)).URL).Delete(t.Context(), fixtureID))

	var got *upstream.Error
	require.ErrorAs(t, newClient(t, serve(t, gone(t)).URL).Delete(t.Context(), fixtureID), &got)
	require.Equal(t, 404, got.Status)

	foreign := []byte("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
	require.ErrorAs(t, newClient(t, serve(t, lost, foreign).URL).Delete(t.Context(), fixtureID), &got, "this 404 is not the vault's")
}

func TestIDs(t *testing.T) {
	for _, id := range []string{"", ".", ".."} {
		v := replay(t, "get-200")
		c := newClient(t, v.URL)
		_, err := c.Get(t.Context(), id)
		require.ErrorContains(t, err, "credential's id")
		require.ErrorContains(t, c.Delete(t.Context(), id), "credential's id")
		require.Empty(t, v.seen())
	}
	for id, path := range map[string]string{"a/b": "a%2Fb", "../x": "..%2Fx", "a?b#c": "a%3Fb%23c", "ä%": "%C3%A4%25"} {
		v := replay(t, "get-200")
		_, err := newClient(t, v.URL+"/pre%2Ffix").Get(t.Context(), id)
		require.NoError(t, err)
		require.Equal(t, "/pre%2Ffix/v1/vault/credentials/"+path, v.only(t).path)
	}
}

// developerCalls are all calls that the API key signs.
var developerCalls = map[string]func(context.Context, *upstream.Client) error{
	"store": func(ctx context.Context, c *upstream.Client) error {
		_, err := c.Store(ctx, upstream.StoreParams{PrincipalID: "p", Service: "s", AccessToken: secret.New(accessToken)})
		return err
	},
	"list": func(ctx context.Context, c *upstream.Client) error {
		_, err := c.List(ctx, upstream.ListParams{})
		return err
	},
	"get":    func(ctx context.Context, c *upstream.Client) error { _, err := c.Get(ctx, fixtureID); return err },
	"delete": func(ctx context.Context, c *upstream.Client) error { return c.Delete(ctx, fixtureID) },
}

func TestDeveloperErrors(t *testing.T) {
	for _, tt := range []struct {
		call, fixture string
		status        int
		code, message string
	}{
		{"store", "store-400-missing", 400, "BAD_REQUEST", "principalId, service, and accessToken are required"},
		{"store", "store-401", 401, "UNAUTHORIZED", "Invalid API key"},
		{"store", "store-500", 500, "INTERNAL_ERROR", "An unexpected error occurred"},
		{"list", "list-401", 401, "UNAUTHORIZED", "Missing or invalid Authorization header"},
		{"get", "get-404", 404, "NOT_FOUND", "Credential not found"},
		{"get", "list-401", 401, "UNAUTHORIZED", "Missing or invalid Authorization header"},
		{"delete", "delete-404", 404, "NOT_FOUND", "Credential not found"},
		{"delete", "list-401", 401, "UNAUTHORIZED", "Missing or invalid Authorization header"},
		{"delete", "delete-400-content-type", 400, "BAD_REQUEST", "Body cannot be empty when content-type is set to 'application/json'"},
	} {
		t.Run(tt.call+" "+tt.fixture, func(t *testing.T) {
			err := developerCalls[tt.call](t.Context(), newClient(t, replay(t, tt.fixture).URL))
			var got *upstream.Error
			require.ErrorAs(t, err, &got)
			require.Equal(t, tt.status, got.Status)
			require.Equal(t, tt.code, got.Code)
			require.Equal(t, tt.message, got.Message)
			require.NotContains(t, got.URL, "?")
		})
	}
}

func TestDeveloperCallsNeedTheKey(t *testing.T) {
	for name, makeCall := range developerCalls {
		for _, key := range []string{"", "canary\n"} {
			v := replay(t, "list-200")
			c := newClient(t, v.URL, func(o *upstream.Options) { o.APIKey = secret.New(key) })
			err := makeCall(t.Context(), c)
			require.ErrorIs(t, err, upstream.ErrNoToken, name)
			require.ErrorContains(t, err, "API key")
			require.NotContains(t, err.Error(), "canary")
			require.Empty(t, v.seen())
		}
	}
}

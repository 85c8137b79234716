package devvault

import (
	"encoding/json"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/grantexd/grantexd/upstream/secret"
)

// call makes one of the developer's calls with the good key.
func asOwner(s *Server, method, path, body string) reply {
	return ask(s.Handler(), method, path, testAPIKey, body)
}

func TestStoreIsAnUpsert(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Options{})
		first := asOwner(w.vault, "POST", pathCredentials, anna)
		time.Sleep(time.Second)
		second := asOwner(w.vault, "POST", pathCredentials,
			credentialBody("github", "gho_made-up_2", `,"credentialType":"pat"`))
		other := asOwner(w.vault, "POST", pathCredentials, credentialBody("GitHub", "gho_made-up_3", ""))

		require.Equal(t, 201, second.status)
		require.Equal(t, first.member(t, "id"), second.member(t, "id"))
		require.Equal(t, first.member(t, "createdAt"), second.member(t, "createdAt"))
		require.Equal(t, "pat", second.member(t, "credentialType"))
		require.NotEqual(t, first.member(t, "id"), other.member(t, "id"), "case makes another service")

		got := asOwner(w.vault, "GET", pathCredentials+"/"+first.member(t, "id"), "")
		require.Equal(t, "2026-09-07T09:29:00.000Z", got.member(t, "createdAt"))
		require.Equal(t, "2026-09-07T09:29:01.000Z", got.member(t, "updatedAt"))
		require.Empty(t, got.member(t, "tokenExpiresAt"), "what is not given again is gone")
		require.Equal(t, "{}", got.member(t, "metadata"))

		token := w.token()
		require.Equal(t, "gho_made-up_2", askFor(w.vault, token, "github").member(t, "accessToken"))
		require.Equal(t, "gho_made-up_3", askFor(w.vault, token, "GitHub").member(t, "accessToken"))
	})
}

func TestStoreBodies(t *testing.T) {
	const required = "principalId, service, and accessToken are required"
	const unexpected = "An unexpected error occurred"
	cases := []struct {
		name, body string
		status     int
		message    string
	}{
		{"all members", `{"principalId":"p","service":"s","accessToken":"a","refreshToken":"r","credentialType":"t",` +
			`"tokenExpiresAt":"2031-02-03T04:05:06Z","metadata":{"a":1}}`, 201, ""},
		{"nulls for what is optional", credentialBody("s", "a",
			`,"refreshToken":null,"credentialType":null,"tokenExpiresAt":null,"metadata":null`), 201, ""},
		{"no principal", `{"service":"s","accessToken":"a"}`, 400, required},
		{"no service", `{"principalId":"p","accessToken":"a"}`, 400, required},
		{"no token", `{"principalId":"p","service":"s"}`, 400, required},
		{"empty token", credentialBody("s", "", ""), 400, required},
		{"nothing", `{}`, 400, required},
		{"list", `[]`, 400, required},
		{"null", `null`, 500, unexpected},
		{"token is a number", `{"principalId":"p","service":"s","accessToken":5}`, 500, unexpected},
		{"principal is a list", `{"principalId":["p"],"service":"s","accessToken":"a"}`, 500, unexpected},
		{"type is a number", credentialBody("s", "a", `,"credentialType":7`), 500, unexpected},
		{"expiry is empty", credentialBody("s", "a", `,"tokenExpiresAt":""`), 500, unexpected},
		{"expiry is a duration", credentialBody("s", "a", `,"tokenExpiresAt":"8h"`), 500, unexpected},
		{"expiry is past", credentialBody("s", "a", `,"tokenExpiresAt":"2001-02-03T04:05:06Z"`), 201, ""},
		{"not JSON", `{`, 400, "Body is not valid JSON but content-type is set to 'application/json'"},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			got := asOwner(newVault(t, Options{}), "POST", pathCredentials, tc.body)
			require.Equal(t, tc.status, got.status, got.body)
			require.Equal(t, tc.message, got.message(t))
		})
	}
}

func TestListFilters(t *testing.T) {
	s := newVault(t, Options{})
	for _, one := range []struct{ principal, service string }{
		{"user_anna", "github"}, {"user_bo", "github"}, {"user_anna", "slack"}, {"user_anna", "Slack"},
	} {
		_, err := s.Store(CredentialParams{
			Principal: one.principal, Service: one.service, AccessToken: secret.New("made-up-token"),
		})
		require.NoError(t, err)
	}
	_, err := s.Store(CredentialParams{Service: "hidden", Developer: "dev_other", AccessToken: secret.New("x")})
	require.NoError(t, err)
	_, err = s.Store(CredentialParams{Principal: "user_anna", Service: "github", AccessToken: secret.New("newer")})
	require.NoError(t, err)

	cases := []struct {
		query string
		want  []string // newest first, by when they were first stored
	}{
		{"", []string{"user_anna Slack", "user_anna slack", "user_bo github", "user_anna github"}},
		{"?principalId=user_anna", []string{"user_anna Slack", "user_anna slack", "user_anna github"}},
		{"?service=github", []string{"user_bo github", "user_anna github"}},
		{"?service=github&principalId=user_bo", []string{"user_bo github"}},
		{"?service=GITHUB", nil},
		{"?service=", nil},
		{"?principalId=user_none", nil},
		{"?unknown=1&service=slack", []string{"user_anna slack"}},
	}
	for _, tc := range cases {
		t.Run(tc.query, func(t *testing.T) {
			got := asOwner(s, "GET", pathCredentials+tc.query, "")
			require.Equal(t, 200, got.status)
			require.NotContains(t, got.body, "made-up-token")
			var list struct {
				Credentials []struct{ PrincipalID, Service string }
			}
			require.NoError(t, json.Unmarshal([]byte(got.body), &list))
			var names []string
			for _, c := range list.Credentials {
				names = append(names, c.PrincipalID+" "+c.Service)
			}
			require.Equal(t, tc.want, names)
		})
	}
}

func TestDelete(t *testing.T) {
	s := newVault(t, Options{})
	id, err := s.Store(CredentialParams{Service: "github", AccessToken: secret.New("made-up")})
	require.NoError(t, err)
	foreign, err := s.Store(CredentialParams{Service: "github", Developer: "dev_other", AccessToken: secret.New("x")})
	require.NoError(t, err)
	path := pathCredentials + "/" + id

	r := newRequest("DELETE", path, "")
	r.Header.Set("Content-Type", jsonType)
	got := record(s.Handler(), r)
	require.Equal(t, 400, got.status, "a JSON content type promises a body, key or no key")
	require.Equal(t, "Body cannot be empty when content-type is set to 'application/json'", got.message(t))

	require.Equal(t, 401, ask(s.Handler(), "DELETE", path, "gx_wrong_key_0000", "").status)
	require.Equal(t, 404, asOwner(s, "DELETE", pathCredentials+"/"+foreign, "").status)
	require.Equal(t, 404, asOwner(s, "GET", pathCredentials+"/"+foreign, "").status)
	got = asOwner(s, "DELETE", path, "")
	require.Equal(t, 204, got.status)
	require.Empty(t, got.body)
	require.Equal(t, 404, asOwner(s, "DELETE", path, "").status)
	require.Equal(t, 404, asOwner(s, "GET", path, "").status)
	require.Equal(t, 404, askFor(s, mint(t, s, MintParams{}), "github").status)

	again, err := s.Store(CredentialParams{Service: "github", AccessToken: secret.New("made-up")})
	require.NoError(t, err)
	require.NotEqual(t, id, again)
}

// TestAPIKeyIsNoGrant and the other way round.
func TestAPIKeyIsNoGrant(t *testing.T) {
	s := newVault(t, Options{})
	require.Equal(t, "Invalid or expired grant token", askFor(s, testAPIKey, "github").message(t))
	got := ask(s.Handler(), "GET", pathCredentials, mint(t, s, MintParams{}), "")
	require.Equal(t, "Invalid API key", got.message(t))
}

func TestRandomAPIKey(t *testing.T) {
	one, err := New(Options{SigningKey: sharedKey()})
	require.NoError(t, err)
	two, err := New(Options{SigningKey: sharedKey()})
	require.NoError(t, err)
	require.NotEqual(t, one.APIKey(), two.APIKey())
	require.Regexp(t, `^gx_dev_[0-9A-Za-z]{32}$`, one.APIKey().Reveal())
	require.Equal(t, 200, ask(one.Handler(), "GET", pathCredentials, one.APIKey().Reveal(), "").status)
	require.Equal(t, 401, ask(one.Handler(), "GET", pathCredentials, two.APIKey().Reveal(), "").status)
}

func TestOptionsThatMakeNoSense(t *testing.T) {
	for name, tc := range map[string]struct {
		o    Options
		want string
	}{
		"window":   {Options{RateWindow: -1}, "window is negative"},
		"rate by":  {Options{RateBy: "port"}, `rate limit by "port"`},
		"key file": {Options{KeyFile: "key"}, "a key file without a data file"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := New(tc.o)
			require.ErrorContains(t, err, tc.want)
		})
	}
}

func TestStoreRefuses(t *testing.T) {
	s := newVault(t, Options{})
	for name, p := range map[string]CredentialParams{
		"no service":   {AccessToken: secret.New("x")},
		"bad service":  {Service: "a b", AccessToken: secret.New("x")},
		"no token":     {Service: "github"},
		"bad metadata": {Service: "github", AccessToken: secret.New("x"), Metadata: json.RawMessage("{")},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := s.Store(p)
			require.Error(t, err)
			require.Empty(t, s.records.credentials)
		})
	}
}

func TestSeed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Options{})
		require.NoError(t, w.vault.Seed())
		token := mint(t, w.vault, MintParams{})

		got := askFor(w.vault, token, "github")
		require.Regexp(t, `^gho_[0-9A-Za-z]{36}$`, got.member(t, "accessToken"))
		require.Equal(t, "2026-09-07T17:29:00.000Z", got.member(t, "tokenExpiresAt"))
		require.JSONEq(t, `{"login":"octocat","scopes":["repo","read:org"]}`, got.member(t, "metadata"))
		slack := askFor(w.vault, token, "slack")
		require.Regexp(t, `^xoxb-\d{12}-\d{13}-[0-9A-Za-z]{24}$`, slack.member(t, "accessToken"))
		require.Empty(t, slack.member(t, "tokenExpiresAt"))

		time.Sleep(seededLife - time.Millisecond)
		require.NoError(t, w.vault.Seed())
		fresh := mint(t, w.vault, MintParams{})
		require.Equal(t, got.member(t, "accessToken"), askFor(w.vault, fresh, "github").member(t, "accessToken"),
			"what is good stays")
		time.Sleep(time.Millisecond)
		require.NoError(t, w.vault.Seed())
		require.NotEqual(t, got.member(t, "accessToken"), askFor(w.vault, fresh, "github").member(t, "accessToken"))
		require.Equal(t, slack.member(t, "accessToken"), askFor(w.vault, fresh, "slack").member(t, "accessToken"))
	})
}

func TestIDs(t *testing.T) {
	now := time.UnixMilli(1469922850259)
	require.Regexp(t, `^vault_01ARZ3NDEK[0-9A-HJKMNP-TV-Z]{16}$`, newID("vault_", time.UnixMilli(1469922850259)),
		"the time of this ULID is known")
	require.Less(t, newID("", now), newID("", now.Add(time.Millisecond)))
	seen := map[string]bool{}
	for range 1000 {
		seen[newID("", now)], seen[newRequestID()] = true, true
	}
	require.Len(t, seen, 2000)
}

func TestRandomText(t *testing.T) {
	require.Len(t, randomText(alphanumeric, 1000), 1000)
	counts := map[rune]int{}
	for _, c := range randomText(digits, 10_000) {
		counts[c]++
	}
	require.Len(t, counts, 10)
	for c, n := range counts {
		require.InDelta(t, 1000, n, 200, string(c))
	}
}

// TestNothingPrintsSecrets prints whatever the vault hands out, and looks for the
// tokens in it.
func TestNothingPrintsSecrets(t *testing.T) {
	s := newVault(t, Options{})
	id, err := s.Store(CredentialParams{
		Service: "github", AccessToken: secret.New("canary-access"), RefreshToken: secret.New("canary-refresh"),
	})
	require.NoError(t, err)
	token, _, err := s.Mint(MintParams{})
	require.NoError(t, err)
	askFor(s, token.Reveal(), "github")
	kept, _ := s.records.get(DefaultDeveloper, id)
	printed := fmt.Sprintf("%v %+v %#v %v %v %+v %v %+v %#v %+v",
		kept, kept, kept, token, s.APIKey(), s.Exchanges(), s, s, s, s.opts)
	for _, canary := range []string{"canary-access", "canary-refresh", token.Reveal(), testAPIKey} {
		require.NotContains(t, printed, canary)
	}
}

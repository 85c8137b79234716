package devvault

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

	"github.com/grantexd/grantexd/upstream/secret"
)

func newRequest(method, path, body string) *http.Request {
	return httptest.NewRequest(method, path, strings.NewReader(body))
}

func rsaKeyOf(t *testing.T, n, e string) rsa.PublicKey {
	t.Helper()
	number := func(s string) *big.Int {
		b, err := base64.RawURLEncoding.DecodeString(s)
		require.NoError(t, err)
		return new(big.Int).SetBytes(b)
	}
	return rsa.PublicKey{N: number(n), E: int(number(e).Int64())}
}

// segment decodes one part of a token.
func segment(t *testing.T, token string, i int) map[string]any {
	t.Helper()
	parts := strings.Split(token, ".")
	require.Len(t, parts, 3)
	b, err := base64.RawURLEncoding.DecodeString(parts[i])
	require.NoError(t, err)
	var m map[string]any
	require.NoError(t, json.Unmarshal(b, &m))
	return m
}

func TestMintedToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Options{})
		token, claims, err := w.vault.Mint(MintParams{Scopes: []string{"github:read", "slack:*"}})
		require.NoError(t, err)

		require.Equal(t, map[string]any{"alg": "RS256", "kid": "grantex-2026-09"}, segment(t, token.Reveal(), 0))
		said := segment(t, token.Reveal(), 1)
		require.ElementsMatch(t,
			[]string{"iss", "sub", "dev", "agt", "scp", "grnt", "jti", "iat", "exp"}, keysOf(said))
		require.Equal(t, "user_dev", said["sub"])
		require.Equal(t, DefaultDeveloper, said["dev"])
		require.Equal(t, []any{"github:read", "slack:*"}, said["scp"])
		require.Regexp(t, `^did:grantex:ag_01`, said["agt"])
		require.Regexp(t, `^grnt_01`, said["grnt"])
		require.Regexp(t, `^tok_01`, said["jti"])
		require.EqualValues(t, wallStart.Unix(), said["iat"])
		require.EqualValues(t, wallStart.Add(24*time.Hour).Unix(), said["exp"])
		require.Equal(t, said["grnt"], claims.GrantID)
		require.InDelta(t, 780, len(token.Reveal()), 120, "about as long as the service's own")
		require.Equal(t, secret.Redacted, token.String())
	})
}

func keysOf(m map[string]any) []string {
	var keys []string
	for k := range m {
		keys = append(keys, k)
	}
	return keys
}

func TestMintParams(t *testing.T) {
	s := newVault(t, Options{})
	p := MintParams{
		Scopes: []string{"x:read"}, Life: time.Hour, Principal: "user_bo", Developer: "dev_other",
		Agent: "did:grantex:ag_one", GrantID: "grnt_one",
	}
	_, claims, err := s.Mint(p)
	require.NoError(t, err)
	require.Equal(t, []string{"x:read"}, claims.Scopes)
	require.Equal(t, "user_bo", claims.Principal)
	require.Equal(t, "dev_other", claims.Developer)
	require.Equal(t, "did:grantex:ag_one", claims.Agent)
	require.Equal(t, "grnt_one", claims.GrantID)
	require.Equal(t, time.Hour, claims.ExpiresAt.Sub(claims.IssuedAt.Time))

	_, _, err = s.Mint(p)
	require.ErrorContains(t, err, "exists already")
	require.Len(t, s.Grants(), 1)
}

func TestRefreshIsTheSameConsent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Options{})
		old, first, err := w.vault.Mint(MintParams{Life: time.Hour})
		require.NoError(t, err)
		time.Sleep(10 * time.Minute)
		fresh, second, err := w.vault.Refresh(first.GrantID)
		require.NoError(t, err)

		require.NotEqual(t, old, fresh)
		require.NotEqual(t, first.TokenID, second.TokenID)
		require.Equal(t, first.GrantID, second.GrantID)
		require.Equal(t, first.ExpiresAt, second.ExpiresAt)
		require.Equal(t, 10*time.Minute, second.IssuedAt.Sub(first.IssuedAt.Time))
		for _, token := range []secret.Text{old, fresh} {
			require.Equal(t, 404, askFor(w.vault, token.Reveal(), "github").status, "both stay valid")
		}
		_, _, err = w.vault.Refresh("grnt_none")
		require.ErrorIs(t, err, ErrUnknownGrant)
	})
}

func TestRevocation(t *testing.T) {
	s := newVault(t, Options{})
	require.NoError(t, s.Seed())
	token, claims, err := s.Mint(MintParams{})
	require.NoError(t, err)
	other := mint(t, s, MintParams{})
	refreshed, _, err := s.Refresh(claims.GrantID)
	require.NoError(t, err)
	require.Equal(t, 200, askFor(s, token.Reveal(), "github").status)

	require.NoError(t, s.Revoke(claims.GrantID))
	require.NoError(t, s.Revoke(claims.GrantID), "twice is fine")
	require.Equal(t, 401, askFor(s, token.Reveal(), "github").status)
	require.Equal(t, 401, askFor(s, refreshed.Reveal(), "github").status, "all tokens of the grant")
	require.Equal(t, 200, askFor(s, other, "github").status, "no other grant")
	late, _, err := s.Refresh(claims.GrantID)
	require.NoError(t, err)
	require.Equal(t, 401, askFor(s, late.Reveal(), "github").status, "no token made later either")
	require.ErrorIs(t, s.Revoke("grnt_none"), ErrUnknownGrant)
}

func TestExpiryBoundary(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Options{})
		require.NoError(t, w.vault.Seed())
		token := mint(t, w.vault, MintParams{Life: time.Minute})
		time.Sleep(time.Minute - time.Millisecond)
		require.Equal(t, 200, askFor(w.vault, token, "github").status)
		time.Sleep(time.Millisecond)
		require.Equal(t, 401, askFor(w.vault, token, "github").status)
	})
}

// forge signs claims in other ways than the vault does.
func forge(t *testing.T, method jwt.SigningMethod, key any, claims Claims) string {
	t.Helper()
	token := jwt.NewWithClaims(method, claims)
	text, err := token.SignedString(key)
	require.NoError(t, err)
	return text
}

func TestRejectedTokensLookTheSame(t *testing.T) {
	s := newVault(t, Options{RateLimit: -1})
	require.NoError(t, s.Seed())
	good, claims, err := s.Mint(MintParams{})
	require.NoError(t, err)
	otherKey, err := rsa.GenerateKey(rand.Reader, rsaBits)
	require.NoError(t, err)
	unknown, immortal := claims, claims
	unknown.GrantID = "grnt_unknown"
	immortal.ExpiresAt = nil
	revoked, revokedClaims, err := s.Mint(MintParams{})
	require.NoError(t, err)
	require.NoError(t, s.Revoke(revokedClaims.GrantID))
	parts := strings.Split(good.Reveal(), ".")
	public, err := json.Marshal(s.keys.rsa.PublicKey)
	require.NoError(t, err)

	cases := map[string]string{
		"expired":            mint(t, s, MintParams{Life: -time.Second}),
		"revoked":            revoked.Reveal(),
		"not a token":        "hello",
		"cut off":            good.Reveal()[:len(good.Reveal())-4],
		"no signature":       parts[0] + "." + parts[1] + ".",
		"other claims":       parts[0] + "." + strings.Split(mint(t, s, MintParams{}), ".")[1] + "." + parts[2],
		"another key":        forge(t, jwt.SigningMethodRS256, otherKey, claims),
		"another RSA method": forge(t, jwt.SigningMethodRS512, s.keys.rsa, claims),
		"public key as HMAC": forge(t, jwt.SigningMethodHS256, public, claims),
		"no algorithm":       forge(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, claims),
		"unknown grant":      forge(t, jwt.SigningMethodRS256, s.keys.rsa, unknown),
		"without expiry":     forge(t, jwt.SigningMethodRS256, s.keys.rsa, immortal),
		"two tokens":         good.Reveal() + " " + good.Reveal(),
	}
	for name, token := range cases {
		t.Run(name, func(t *testing.T) {
			got := askFor(s, token, "github")
			require.Equal(t, 401, got.status)
			require.Equal(t, "Invalid or expired grant token", got.message(t))
			require.Equal(t, "UNAUTHORIZED", got.member(t, "code"))
		})
	}
	require.Equal(t, 200, askFor(s, good.Reveal(), "github").status)
}

// TestKeyIDIsIgnored: a token with a strange kid is good if its signature is.
func TestKeyIDIsIgnored(t *testing.T) {
	s := newVault(t, Options{})
	_, claims, err := s.Mint(MintParams{})
	require.NoError(t, err)
	token := jwt.NewWithClaims(jwt.SigningMethodRS256, claims)
	token.Header["kid"] = "grantex-1999-12"
	text, err := token.SignedString(s.keys.rsa)
	require.NoError(t, err)
	require.Equal(t, 404, askFor(s, text, "github").status)
}

func TestAuthorizationHeader(t *testing.T) {
	s := newVault(t, Options{RateLimit: -1})
	token := mint(t, s, MintParams{})
	cases := []struct{ name, header, message string }{
		{"none", "", "Missing grant token"},
		{"lower case", "bearer " + token, "Missing grant token"},
		{"other scheme", "Basic " + token, "Missing grant token"},
		{"no scheme", token, "Missing grant token"},
		{"scheme alone", "Bearer", "Missing grant token"},
		{"nothing behind the scheme", "Bearer  ", "Missing grant token"},
		{"good", "Bearer " + token, "No credential found for this principal and service"},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			r := newRequest("POST", pathExchange, github)
			r.Header.Set("Content-Type", jsonType)
			r.Header.Set("Authorization", tc.header)
			require.Equal(t, tc.message, record(s.Handler(), r).message(t))
		})
	}
}

func TestScopes(t *testing.T) {
	cases := []struct {
		scope, service string
		want           bool
	}{
		{"*", "github", true},
		{"github:*", "github", true},
		{"github:read", "github", true},
		{"github:credentials:read", "github", true},
		{"vault:github:*", "github", true},
		{"vault:github:read", "github", true},
		{"vault:credentials:exchange", "github", true},
		{"GitHub:Read", "github", true},
		{"github:read", "GITHUB", true},
		{"VAULT:CREDENTIALS:EXCHANGE", "github", true},
		{"github", "github", false},
		{"github:write", "github", false},
		{"slack:read", "github", false},
		{"github:", "github", false},
		{"githu:*", "github", false},
		{"github2:*", "github", false},
		{"*:read", "github", false},
		{"vault:*", "github", false},
		{"vault:github:write", "github", false},
		{"vault:credentials:*", "github", false},
		{"", "github", false},
	}
	for _, tc := range cases {
		t.Run(tc.scope+" for "+tc.service, func(t *testing.T) {
			require.Equal(t, tc.want, opens([]string{"unrelated", tc.scope}, tc.service))
		})
	}
	require.False(t, opens(nil, "github"))
}

// TestOrderOfChecks breaks everything at once and mends it from the first check
// on; each time the next one speaks.
func TestOrderOfChecks(t *testing.T) {
	s := newVault(t, Options{RateLimit: 1})
	_, err := s.Store(CredentialParams{Service: "github", AccessToken: secret.New("made-up")})
	require.NoError(t, err)
	narrow := mint(t, s, MintParams{Scopes: []string{"slack:read"}})
	wide := mint(t, s, MintParams{Scopes: []string{"*"}})
	steps := []struct {
		name, contentType, body, token string
		status                         int
		message                        string
	}{
		{"rate limit", "text/html", "{", "forged", 429, "Rate limit exceeded, retry in 1 minute"},
		{"content type", "text/html", "{", "forged", 415, "Unsupported Media Type"},
		{"size", jsonType, strings.Repeat("{", maxBodyBytes+1), "forged", 413, "Request body is too large"},
		{"JSON", jsonType, "{", "forged", 400, "Body is not valid JSON but content-type is set to 'application/json'"},
		{"grant token", jsonType, "{}", "forged", 401, "Invalid or expired grant token"},
		{"service given", jsonType, "{}", narrow, 400, "service is required"},
		{"service name", jsonType, `{"service":"a b"}`, narrow, 400,
			"service must be 1-64 characters and contain only letters, numbers, dot, underscore, or dash"},
		{"scope", jsonType, `{"service":"none"}`, narrow, 403, "Grant token is not scoped for none credential exchange"},
		{"lookup", jsonType, `{"service":"none"}`, wide, 404, "No credential found for this principal and service"},
		{"success", jsonType, `{"service":"github"}`, wide, 200, ""},
	}
	for i, step := range steps {
		t.Run(step.name, func(t *testing.T) {
			if i == 0 {
				askFor(s, wide, "github") // uses up the limit
			} else {
				s.limits.reset()
			}
			r := newRequest("POST", pathExchange, step.body)
			r.Header.Set("Content-Type", step.contentType)
			r.Header.Set("Authorization", "Bearer "+step.token)
			got := record(s.Handler(), r)
			require.Equal(t, step.status, got.status)
			require.Equal(t, step.message, got.message(t))
		})
	}
}

// TestLookup: developer, principal and service decide together, and case
// matters.
func TestLookup(t *testing.T) {
	s := newVault(t, Options{RateLimit: -1})
	for _, p := range []CredentialParams{
		{Service: "github", AccessToken: secret.New("one")},
		{Service: "github", AccessToken: secret.New("two"), Principal: "user_bo"},
		{Service: "github", AccessToken: secret.New("three"), Developer: "dev_other"},
	} {
		_, err := s.Store(p)
		require.NoError(t, err)
	}
	cases := []struct {
		name    string
		p       MintParams
		service string
		want    string
	}{
		{"own", MintParams{}, "github", "one"},
		{"another principal", MintParams{Principal: "user_bo"}, "github", "two"},
		{"another developer", MintParams{Developer: "dev_other"}, "github", "three"},
		{"both others", MintParams{Principal: "user_bo", Developer: "dev_other"}, "github", ""},
		{"other case", MintParams{}, "GITHUB", ""},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			require.Equal(t, tc.want, askFor(s, mint(t, s, tc.p), tc.service).member(t, "accessToken"))
		})
	}
}

package devvault

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// The files in testdata/wire are raw answers in the shape of the service's own,
// with made-up values. Each test brings a vault to where it has to say the same,
// to the byte, but for ids that are random.

// answeredAt is the Date of all the files.
var answeredAt = time.Date(2026, 9, 7, 9, 30, 0, 0, time.UTC)

// wireCase tells how to get one answer.
type wireCase struct {
	file string
	// before prepares the vault and returns the request.
	before func(w *world) string
	o      Options
}

func request(method, path, bearer, contentType, body string) string {
	lines := []string{method + " " + path + " HTTP/1.1", "Host: vault", "Connection: close"}
	if bearer != "" {
		lines = append(lines, "Authorization: "+bearer)
	}
	if contentType != "" {
		lines = append(lines, "Content-Type: "+contentType)
	}
	if body != "" || contentType != "" {
		lines = append(lines, fmt.Sprintf("Content-Length: %d", len(body)))
	}
	return strings.Join(lines, "\r\n") + "\r\n\r\n" + body
}

const jsonType = "application/json"

func exchangeRequest(token, body string) string {
	return request("POST", pathExchange, "Bearer "+token, jsonType, body)
}

func developerRequest(method, path, body string) string {
	contentType := ""
	if body != "" {
		contentType = jsonType
	}
	return request(method, path, "Bearer "+testAPIKey, contentType, body)
}

// stored stores what body says and exchanges it.
func stored(service, body string) func(w *world) string {
	return func(w *world) string {
		w.put(body)
		w.sleepUntil(answeredAt)
		return exchangeRequest(w.token(), `{"service":"`+service+`"}`)
	}
}

// put stores a credential through the API.
func (w *world) put(body string) {
	w.t.Helper()
	require.Equal(w.t, 201, parse(w.t, w.send(developerRequest("POST", pathCredentials, body))).status)
}

func (w *world) token() string { return mint(w.t, w.vault, MintParams{Principal: "user_anna"}) }

// refused asks with the token of a grant that p describes.
func refused(p MintParams, body string) func(w *world) string {
	return func(w *world) string {
		w.sleepUntil(answeredAt)
		return exchangeRequest(mint(w.t, w.vault, p), body)
	}
}

// plain is a request that needs nothing prepared.
func plain(text string) func(w *world) string {
	return func(w *world) string { w.sleepUntil(answeredAt); return text }
}

// anna is the credential of the files of the developer's calls; it is stored
// twice, so creation and update differ.
const anna = `{"principalId":"user_anna","service":"github","accessToken":"gho_made-up_1",` +
	`"tokenExpiresAt":"2026-09-07T17:30:00Z","metadata":{"login":"hubot","scopes":["repo"]}}`

func withAnna(request func(id string) string) func(w *world) string {
	return func(w *world) string {
		w.sleepUntil(time.Date(2026, 9, 7, 9, 29, 57, 125e6, time.UTC))
		w.put(anna)
		w.sleepUntil(time.Date(2026, 9, 7, 9, 29, 59, 500e6, time.UTC))
		w.put(anna)
		w.sleepUntil(answeredAt)
		list := w.vault.records.list(DefaultDeveloper, func(credential) bool { return true })
		return request(list[0].id)
	}
}

func credentialBody(service, token, more string) string {
	return `{"principalId":"user_anna","service":"` + service + `","accessToken":"` + token + `"` + more + `}`
}

// spent uses the limit up, and then waits until the answer is due.
func spent(at time.Time) func(w *world) string {
	return func(w *world) string {
		w.sleepUntil(at)
		for range DefaultRateLimit {
			require.Equal(w.t, 401, parse(w.t, w.send(exchangeRequest("no.such.token", `{}`))).status)
		}
		w.sleepUntil(answeredAt)
		return exchangeRequest(w.token(), `{"service":"github"}`)
	}
}

var github = `{"service":"github"}`

var wireCases = []wireCase{
	{file: "exchange-200-expiry", before: stored("github", anna)},
	{file: "exchange-200-expiry-micros", before: stored("micros",
		credentialBody("micros", "made-up", `,"tokenExpiresAt":"2032-06-07T08:09:10.456789Z"`))},
	{file: "exchange-200-expiry-offset", before: stored("offset",
		credentialBody("offset", "made-up", `,"tokenExpiresAt":"2032-06-07T08:09:10+05:30"`))},
	{file: "exchange-200-past-expiry", before: stored("past",
		credentialBody("past", "past-made-up", `,"tokenExpiresAt":"2026-09-07T08:30:00Z"`))},
	{file: "exchange-200-null-expiry", before: stored("slack", credentialBody("slack", "xoxb-made-up", ""))},
	{file: "exchange-200-metadata-absent", before: stored("metaabsent", credentialBody("metaabsent", "made-up", ""))},
	{file: "exchange-200-metadata-empty", before: stored("metaempty",
		credentialBody("metaempty", "made-up", `,"metadata":{ }`))},
	{file: "exchange-200-metadata-array", before: stored("metaarray",
		credentialBody("metaarray", "made-up", `,"metadata":[3, 4]`))},
	{file: "exchange-200-metadata-string", before: stored("metastr",
		credentialBody("metastr", "made-up", `,"metadata":"bare"`))},
	{file: "exchange-200-metadata-nested", before: stored("metanested",
		credentialBody("metanested", "made-up", `,"metadata":{"x":{"y":[2,{"z":null}]},"w":"ü→"}`))},
	{file: "exchange-200-metadata-object", o: Options{MetadataAsObject: true}, before: stored("metaobj",
		credentialBody("metaobj", "gho_made-up_2", `,"metadata":{"k":{"b":2},"login":"hubot"}`))},

	{file: "exchange-400-missing-service", before: refused(MintParams{}, `{}`)},
	{file: "exchange-400-bad-service-name", before: refused(MintParams{}, `{"service":"../etc"}`)},
	{file: "exchange-400-empty-body", before: refused(MintParams{}, "")},
	{file: "exchange-400-malformed-json", before: refused(MintParams{}, `{"service":`)},
	{file: "exchange-401-no-header", before: plain(request("POST", pathExchange, "", jsonType, github))},
	{file: "exchange-401-expired", before: refused(MintParams{Life: -time.Second}, github)},
	{file: "exchange-401-revoked-grant", before: func(w *world) string {
		token, claims, err := w.vault.Mint(MintParams{})
		require.NoError(w.t, err)
		require.NoError(w.t, w.vault.Revoke(claims.GrantID))
		w.sleepUntil(answeredAt)
		return exchangeRequest(token.Reveal(), github)
	}},
	{file: "exchange-403-scope", before: refused(MintParams{Scopes: []string{"slack:read"}}, github)},
	{file: "exchange-404", before: refused(MintParams{}, github)},
	{file: "exchange-413", before: refused(MintParams{}, strings.Repeat(" ", maxBodyBytes+1))},
	{file: "exchange-415-form", before: func(w *world) string {
		w.sleepUntil(answeredAt)
		return request("POST", pathExchange, "Bearer "+w.token(), "application/x-www-form-urlencoded", "service=github")
	}},
	{file: "exchange-429", before: spent(answeredAt.Add(-20 * time.Second))},
	{file: "exchange-429-after-401s", before: spent(answeredAt)},
	{file: "exchange-500-null-body", before: refused(MintParams{}, `null`)},
	{file: "wrong-path-401", before: func(w *world) string {
		w.sleepUntil(answeredAt)
		return request("POST", pathExchange+"/", "Bearer "+w.token(), jsonType, github)
	}},

	{file: "store-201", before: withAnna(func(string) string { return developerRequest("POST", pathCredentials, anna) })},
	{file: "store-400-missing", before: plain(developerRequest("POST", pathCredentials, `{"service":"github"}`))},
	{file: "store-400-bad-service", before: plain(
		developerRequest("POST", pathCredentials, credentialBody("no spaces", "made-up", "")))},
	{file: "store-401-bad-key", before: plain(
		request("POST", pathCredentials, "Bearer gx_test_another_key", jsonType, anna))},
	{file: "store-500-bad-tokenExpiresAt", before: plain(
		developerRequest("POST", pathCredentials, credentialBody("github", "made-up", `,"tokenExpiresAt":"tomorrow"`)))},
	{file: "list-200", before: withAnna(func(string) string { return developerRequest("GET", pathCredentials, "") })},
	{file: "list-200-empty", before: plain(developerRequest("GET", pathCredentials+"?service=none", ""))},
	{file: "list-401", before: plain(request("GET", pathCredentials, "", "", ""))},
	{file: "get-200", before: withAnna(func(id string) string {
		return developerRequest("GET", pathCredentials+"/"+id, "")
	})},
	{file: "get-401", before: plain(request("GET", pathCredentials+"/vault_x", "Basic abc", "", ""))},
	{file: "get-404", before: plain(developerRequest("GET", pathCredentials+"/vault_x", ""))},
	{file: "delete-204", before: withAnna(func(id string) string {
		return developerRequest("DELETE", pathCredentials+"/"+id, "")
	})},
	{file: "delete-401", before: plain(request("DELETE", pathCredentials+"/vault_x", "", "", ""))},
	{file: "delete-404", before: plain(developerRequest("DELETE", pathCredentials+"/vault_x", ""))},
	{file: "jwks-200", before: plain(request("GET", pathKeySet, "", "", ""))},
}

func TestAnswersAreTheVaults(t *testing.T) {
	for _, tc := range wireCases {
		t.Run(tc.file, func(t *testing.T) {
			want, err := os.ReadFile(filepath.Join("testdata", "wire", tc.file+".http"))
			require.NoError(t, err)
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, tc.o)
				got := w.send(tc.before(w))
				requireSameAnswer(t, parse(t, want), parse(t, got))
			})
		})
	}
}

// TestEveryFileIsUsed fails on a file that no case looks at.
func TestEveryFileIsUsed(t *testing.T) {
	files, err := filepath.Glob("testdata/wire/*.http")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, f := range files {
		name := strings.TrimSuffix(filepath.Base(f), ".http")
		require.True(t, slices.ContainsFunc(wireCases, func(c wireCase) bool { return c.file == name }), name)
	}
}

// requireSameAnswer compares all but random ids, keys, and how much is left of a
// developer's plan.
func requireSameAnswer(t *testing.T, want, got reply) {
	t.Helper()
	require.Equal(t, want.status, got.status)
	require.Equal(t, masked(want.body), masked(got.body))
	if got.status != http.StatusNoContent {
		require.Equal(t, strconv.Itoa(len(got.body)), got.header.Get("Content-Length"))
	}
	for _, h := range []http.Header{want.header, got.header} {
		h.Del("Content-Length") // that of the key set varies
		if h.Get("X-Ratelimit-Limit") == strconv.Itoa(planPerWindow) {
			for _, name := range []string{"X-Ratelimit-Remaining", "X-Ratelimit-Reset"} {
				require.Regexp(t, `^\d{1,2}$`, h.Get(name))
				h.Set(name, "some")
			}
		}
	}
	require.Equal(t, want.header, got.header)
}

var masks = []struct {
	pattern *regexp.Regexp
	with    string
}{
	{regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}`), "UUID"},
	{regexp.MustCompile(`vault_01[0-9A-HJKMNP-TV-Z]{24}`), "ID"},
	{regexp.MustCompile(`"n":"[\w-]{342}"`), `"n":"2048 BITS"`},
	{regexp.MustCompile(`"x":"[\w-]{43}"`), `"x":"32 BYTES"`},
}

func masked(body string) string {
	for _, m := range masks {
		body = m.pattern.ReplaceAllString(body, m.with)
	}
	return body
}

func TestHeaderOver16KB(t *testing.T) {
	const want = `{"error":"Request Header Fields Too Large",` +
		`"message":"Exceeded maximum allowed HTTP header size","statusCode":431}`
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Options{})
		send := func(tokenBytes int) reply {
			return parse(t, w.send(exchangeRequest(strings.Repeat("x", tokenBytes), github)))
		}
		got := send(17 << 10)
		require.Equal(t, 431, got.status)
		require.Equal(t, want, got.body)
		got.header.Del("Connection") // we asked for it
		require.Equal(t, http.Header{"Content-Type": {"application/json"}, "Content-Length": {"114"}}, got.header)

		require.Equal(t, 401, send(15<<10).status)
		require.Len(t, w.vault.Exchanges().Exchanges, 1, "what is refused for its size is no exchange")
	})
}

func TestHeaderSizeBoundary(t *testing.T) {
	s := newVault(t, Options{})
	send := func(bytes int) int {
		r := newRequest("GET", pathHealth, "")
		r.Header.Set("X", "")
		r.Header.Set("X", strings.Repeat("x", bytes-headerBytes(r)))
		require.Equal(t, bytes, headerBytes(r))
		return record(s.Handler(), r).status
	}
	require.Equal(t, 200, send(maxHeaderBytes))
	require.Equal(t, 431, send(maxHeaderBytes+1))
}

func TestHealth(t *testing.T) {
	s := newVault(t, Options{})
	got := ask(s.Handler(), "GET", pathHealth, "", "")
	require.Equal(t, 200, got.status)
	require.Equal(t, `{"status":"healthy","database":"ok","redis":"ok"}`, got.body)
	require.Equal(t, "5000", got.header.Get("X-Ratelimit-Limit"))

	_, err := s.AddFault(Fault{Kind: FaultStatus, On: OnHealth})
	require.NoError(t, err)
	got = ask(s.Handler(), "GET", pathHealth, "", "")
	require.Equal(t, 503, got.status)
	require.Equal(t, `{"status":"degraded","database":"error","redis":"ok"}`, got.body)
}

func TestWrongPaths(t *testing.T) {
	s := newVault(t, Options{})
	token := mint(t, s, MintParams{})
	cases := []struct{ name, method, path string }{
		{"root", "GET", "/"},
		{"trailing slash of the exchange", "POST", pathExchange + "/"},
		{"trailing slash of the list", "GET", pathCredentials + "/"},
		{"prefix missing", "POST", "/vault/credentials/exchange"},
		{"prefix twice", "POST", "/v1" + pathExchange},
		{"doubled slash", "POST", "/" + pathExchange},
		{"other case", "POST", strings.ToUpper(pathExchange)},
		{"below a credential", "GET", pathCredentials + "/vault_x/token"},
		{"method", "PUT", pathExchange},
		{"method of the health check", "POST", pathHealth},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			got := ask(s.Handler(), tc.method, tc.path, token, "")
			require.Equal(t, 401, got.status)
			require.Equal(t, "Invalid API key", got.message(t))
			require.Empty(t, got.header.Get("X-Ratelimit-Limit"))

			got = ask(s.Handler(), tc.method, tc.path, "", "")
			require.Equal(t, "Missing or invalid Authorization header", got.message(t))
			require.Equal(t, 401, got.status)

			got = ask(s.Handler(), tc.method, tc.path, testAPIKey, "")
			require.Equal(t, 404, got.status)
			require.Contains(t, got.message(t), "Route "+tc.method+":")
		})
	}
	require.Empty(t, s.Exchanges().Exchanges)
	require.Equal(t, "20", askFor(s, token, "x").header.Get("X-Ratelimit-Limit"))
	require.Equal(t, "18", askFor(s, token, "x").header.Get("X-Ratelimit-Remaining"), "wrong paths don't count")
}

func TestHeadIsGetWithoutBody(t *testing.T) {
	s := newVault(t, Options{})
	got := ask(s.Handler(), "HEAD", pathKeySet, "", "")
	require.Equal(t, 200, got.status)
}

func TestKeySetVerifiesTokens(t *testing.T) {
	s := newVault(t, Options{})
	var set struct {
		Keys []struct{ Kty, N, E, Kid string }
	}
	require.NoError(t, json.Unmarshal([]byte(ask(s.Handler(), "GET", pathKeySet, "", "").body), &set))
	require.Len(t, set.Keys, 2)
	require.Equal(t, "RSA", set.Keys[0].Kty)
	require.Equal(t, s.keys.kid(), set.Keys[0].Kid)
	require.Equal(t, rsaKeyOf(t, set.Keys[0].N, set.Keys[0].E), s.keys.rsa.PublicKey)
}

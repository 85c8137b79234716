package devvault

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/grantexd/grantexd/upstream/secret"
)

// admin calls the admin API from this machine.
func admin(s *Server, method, path, body string) reply {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Host, r.RemoteAddr = "localhost:9000", "127.0.0.1:5000"
	if body != "" {
		r.Header.Set("Content-Type", jsonType)
	}
	return record(s.Admin(), r)
}

func TestAdminMint(t *testing.T) {
	s := newVault(t, Options{})
	require.NoError(t, s.Seed())
	got := admin(s, "POST", "/grants", `{"scopes":["github:read"],"life":"90m","principalId":"user_dev",`+
		`"agentId":"did:grantex:ag_x","developerId":"dev_local","grantId":"grnt_x"}`)
	require.Equal(t, 201, got.status)
	require.Equal(t, "no-store", got.header.Get("Cache-Control"))
	require.Equal(t, "grnt_x", got.member(t, "grantId"))
	require.Equal(t, "[github:read]", got.member(t, "scopes"))
	token := got.member(t, "grantToken")
	require.Equal(t, 200, askFor(s, token, "github").status)
	require.Equal(t, "did:grantex:ag_x", segment(t, token, 1)["agt"])
	expires, err := time.Parse(time.RFC3339, got.member(t, "expiresAt"))
	require.NoError(t, err)
	require.InDelta(t, 90*60, time.Until(expires).Seconds(), 5)

	again := admin(s, "POST", "/grants", `{"grantId":"grnt_x"}`)
	require.Equal(t, 409, again.status)

	fresh := admin(s, "POST", "/grants/grnt_x/refresh", "")
	require.Equal(t, 201, fresh.status)
	require.NotEqual(t, token, fresh.member(t, "grantToken"))
	require.Equal(t, got.member(t, "expiresAt"), fresh.member(t, "expiresAt"))
	require.Equal(t, 404, admin(s, "POST", "/grants/grnt_y/refresh", "").status)

	list := admin(s, "GET", "/grants", "")
	require.Contains(t, list.body, `"grantId":"grnt_x"`)
	require.Contains(t, list.body, `"revoked":false`)
	require.NotContains(t, list.body, token)

	require.Equal(t, 204, admin(s, "DELETE", "/grants/grnt_x", "").status)
	require.Equal(t, 401, askFor(s, token, "github").status)
	require.Contains(t, admin(s, "GET", "/grants", "").body, `"revoked":true`)
	require.Equal(t, 404, admin(s, "DELETE", "/grants/grnt_y", "").status)
}

func TestAdminMintDefaults(t *testing.T) {
	s := newVault(t, Options{})
	require.NoError(t, s.Seed())
	got := admin(s, "POST", "/grants", `{}`)
	require.Equal(t, 200, askFor(s, got.member(t, "grantToken"), "slack").status)
}

func TestAdminStore(t *testing.T) {
	s := newVault(t, Options{})
	for range 2 * writesPerWindow {
		got := admin(s, "POST", "/credentials", credentialBody("github", "made-up", `,"tokenExpiresAt":"2031-01-01"`))
		require.Equal(t, 201, got.status)
		require.Regexp(t, "^vault_", got.member(t, "id"))
		require.NotContains(t, got.body, "made-up")
	}
	token := mint(t, s, MintParams{Principal: "user_anna"})
	require.Equal(t, "2031-01-01T00:00:00.000Z", askFor(s, token, "github").member(t, "tokenExpiresAt"))
	require.Equal(t, 400, admin(s, "POST", "/credentials", `{}`).status)
	require.Equal(t, 400, admin(s, "POST", "/credentials", `{`).status)
	got := admin(s, "POST", "/credentials", credentialBody("x", "made-up", `,"tokenExpiresAt":"8h"`))
	require.Equal(t, 400, got.status)
	require.Contains(t, got.message(t), "tokenExpiresAt")
}

func TestAdminFaults(t *testing.T) {
	s := newVault(t, Options{})
	const line = `{"id":1,"kind":"hang","on":"exchange","service":"github","times":2,"share":0.5,` +
		`"delay":"20s","countLate":true,"applied":0}`
	got := admin(s, "POST", "/faults", `{"kind":"hang","on":"exchange","service":"github","times":2,`+
		`"share":0.5,"delay":"20s","countLate":true}`)
	require.Equal(t, 201, got.status)
	require.Equal(t, line+"\n", got.body)
	require.Equal(t, []ActiveFault{{ID: 1, Fault: Fault{
		Kind: FaultHang, On: OnExchange, Service: "github", Times: 2, Share: 0.5,
		Delay: 20 * time.Second, CountLate: true,
	}}}, s.Faults())
	require.Equal(t, `{"faults":[`+line+"]}\n", admin(s, "GET", "/faults", "").body)

	for _, body := range []string{
		`{"kind":"status","status":500,"body":"x"}`, `{"kind":"unauthorized","as":"proxy"}`,
		`{"kind":"rate-limit","retryAfter":"40s"}`, `{"kind":"oversize","size":7}`,
	} {
		require.Equal(t, 201, admin(s, "POST", "/faults", body).status, body)
	}
	require.Equal(t, Fault{Kind: FaultRateLimit, RetryAfter: 40 * time.Second}, s.Faults()[3].Fault)
	require.Equal(t, 204, admin(s, "DELETE", "/faults/3", "").status)
	require.Equal(t, 404, admin(s, "DELETE", "/faults/3", "").status)
	require.Equal(t, 404, admin(s, "DELETE", "/faults/x", "").status)
	require.Len(t, s.Faults(), 4)
	require.Equal(t, 204, admin(s, "DELETE", "/faults", "").status)
	require.Equal(t, "{\"faults\":[]}\n", admin(s, "GET", "/faults", "").body)
}

func TestAdminClock(t *testing.T) {
	s := newVault(t, Options{})
	require.Equal(t, "{\"offset\":\"0s\"}\n", admin(s, "GET", "/clock", "").body)
	require.Equal(t, "{\"offset\":\"-5m0s\"}\n", admin(s, "PUT", "/clock", `{"offset":"-5m"}`).body)
	require.Equal(t, -5*time.Minute, s.ClockOffset())
	require.Equal(t, 204, admin(s, "POST", "/reset", "").status)
	require.Zero(t, s.ClockOffset())
}

func TestAdminExchanges(t *testing.T) {
	s := newVault(t, Options{RateLimit: 1})
	token := mint(t, s, MintParams{})
	askFor(s, token, "github")
	askFor(s, token, "github")
	got := admin(s, "GET", "/exchanges", "")
	require.NotContains(t, got.body, token)
	var report struct {
		Total, MaxInWindow int
		Window             string
		ByStatus           map[string]int
		Exchanges          []map[string]any
	}
	require.NoError(t, json.Unmarshal([]byte(got.body), &report))
	require.Equal(t, 2, report.Total)
	require.Equal(t, 2, report.MaxInWindow)
	require.Equal(t, "1m0s", report.Window)
	require.Equal(t, map[string]int{"404": 1, "429": 1}, report.ByStatus)
	require.ElementsMatch(t, []string{"at", "countedAt", "grantId", "service", "status"}, keysOf(report.Exchanges[0]))

	require.Equal(t, 204, admin(s, "DELETE", "/exchanges", "").status)
	require.Zero(t, s.Exchanges().Total)
	require.Equal(t, 429, askFor(s, token, "github").status, "only the log was forgotten")
	admin(s, "POST", "/reset", "")
	require.Equal(t, 404, askFor(s, token, "github").status, "now the window too; grants stay")
}

func TestAdminErrors(t *testing.T) {
	s := newVault(t, Options{})
	cases := []struct {
		name, method, path, contentType, body string
		status                                int
		want                                  string
	}{
		{"unknown call", "GET", "/grant", "", "", 404, "no call GET /grant"},
		{"unknown method", "PATCH", "/faults", "", "", 404, "no call PATCH /faults"},
		{"form", "POST", "/grants", "application/x-www-form-urlencoded", "life=1h", 415, "Content-Type: application/json"},
		{"no type", "POST", "/grants", "", "{}", 415, "Content-Type: application/json"},
		{"empty", "POST", "/grants", jsonType, "", 400, "{} for the defaults"},
		{"misspelt", "POST", "/faults", jsonType, `{"kind":"hang","dealy":"1s"}`, 400, `unknown field "dealy"`},
		{"wrong type", "POST", "/faults", jsonType, `{"kind":"hang","times":"2"}`, 400, `"times" is not of type int`},
		{"number for a duration", "POST", "/faults", jsonType, `{"kind":"hang","delay":2}`, 400, `"delay" is not a duration`},
		{"bad duration", "POST", "/grants", jsonType, `{"life":"soon"}`, 400, `"soon" is not a duration`},
		{"two objects", "POST", "/grants", jsonType, `{}{}`, 400, "something behind"},
		{"not JSON", "POST", "/grants", jsonType, `{"life"`, 400, "can't be read"},
		{"chosen id", "POST", "/faults", jsonType, `{"id":7,"kind":"reset"}`, 400, "can't be chosen"},
		{"senseless", "POST", "/faults", jsonType, `{"kind":"latency"}`, 400, "latency needs a delay"},
		{"too large", "POST", "/credentials", jsonType, strings.Repeat(" ", maxBodyBytes+1), 413, "too large"},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			r := httptest.NewRequest(tc.method, tc.path, strings.NewReader(tc.body))
			r.Host = "127.0.0.1"
			r.RemoteAddr = "127.0.0.1:5000"
			if tc.contentType != "" {
				r.Header.Set("Content-Type", tc.contentType)
			}
			got := record(s.Admin(), r)
			require.Equal(t, tc.status, got.status)
			require.Contains(t, got.message(t), tc.want)
		})
	}
	require.Empty(t, s.Faults())
	require.Empty(t, s.Grants())
}

func TestAdminGuard(t *testing.T) {
	type from struct {
		host, remote, local string
		header              string
	}
	good := from{"localhost:9000", "127.0.0.1:5000", "127.0.0.1:9000", ""}
	with := func(change func(*from)) from { f := good; change(&f); return f }
	cases := []struct {
		name           string
		from           from
		allowed        bool // to anybody
		allowedRemotes bool // with AllowRemoteAdmin
	}{
		{"this machine", good, true, true},
		{"IPv6", from{"[::1]:9000", "[::1]:5000", "[::1]:9000", ""}, true, true},
		{"host without port", with(func(f *from) { f.host = "127.0.0.1" }), true, true},
		{"host in capitals", with(func(f *from) { f.host = "LOCALHOST:9000" }), true, true},
		{"a pipe", with(func(f *from) { f.remote, f.local = "pipe", "" }), true, true},
		{"Origin", with(func(f *from) { f.header = "Origin" }), false, false},
		{"Referer", with(func(f *from) { f.header = "Referer" }), false, false},
		{"Sec-Fetch-Site", with(func(f *from) { f.header = "Sec-Fetch-Site" }), false, false},
		{"rebound name", with(func(f *from) { f.host = "attacker.example:9000" }), false, true},
		{"name with a loopback start", with(func(f *from) { f.host = "127.0.0.1.example" }), false, true},
		{"no host", with(func(f *from) { f.host = "" }), false, true},
		{"another machine", with(func(f *from) { f.remote = "192.0.2.7:5000" }), false, true},
		{"to another address", with(func(f *from) { f.local = "192.0.2.1:9000" }), false, true},
		{"to all addresses", with(func(f *from) { f.local = "0.0.0.0:9000" }), false, true},
	}
	strict, lenient := newVault(t, Options{}), newVault(t, Options{AllowRemoteAdmin: true})
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			r := httptest.NewRequest("GET", "/grants", nil)
			r.Host, r.RemoteAddr = tc.from.host, tc.from.remote
			if tc.from.header != "" {
				r.Header.Set(tc.from.header, "http://localhost:9000")
			}
			if addr, err := net.ResolveTCPAddr("tcp", tc.from.local); err == nil && tc.from.local != "" {
				r = r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, addr))
			}
			want := func(ok bool) int {
				if ok {
					return 200
				}
				return 403
			}
			require.Equal(t, want(tc.allowed), record(strict.Admin(), r).status)
			require.Equal(t, want(tc.allowedRemotes), record(lenient.Admin(), r).status)
		})
	}
}

// TestAdminOverTCP goes through a real listener, whose addresses the guard sees.
func TestAdminOverTCP(t *testing.T) {
	server := httptest.NewServer(newVault(t, Options{}).Admin())
	defer server.Close()
	resp, err := server.Client().Get(server.URL + "/clock")
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, 200, resp.StatusCode)
}

func TestCheckAdminAddress(t *testing.T) {
	for addr, ok := range map[string]bool{
		"127.0.0.1:9000": true, "127.9.9.9:0": true, "[::1]:9000": true, "localhost:9000": true,
		":9000": false, "0.0.0.0:9000": false, "[::]:9000": false, "192.0.2.1:9000": false,
		"example.com:9000": false, "127.0.0.1": false, "": false,
	} {
		err := CheckAdminAddress(addr)
		require.Equal(t, ok, err == nil, "%q: %v", addr, err)
	}
}

// TestDocumentedCalls carries out every curl line of the package's
// documentation.
func TestDocumentedCalls(t *testing.T) {
	doc, err := os.ReadFile("doc.go")
	require.NoError(t, err)
	lines := regexp.MustCompile(`(?m)^//\tcurl (?:-X (\w+) )?\$ADMIN(\S+)(?: --json '([^']*)')?`).FindAllStringSubmatch(string(doc), -1)
	require.Len(t, lines, strings.Count(string(doc), "//\tcurl "), "a line is not understood")
	s := newVault(t, Options{})
	_, _, err = s.Mint(MintParams{GrantID: "GRANT"})
	require.NoError(t, err)
	documented := map[FaultKind]bool{}
	for _, line := range lines {
		method, path, body := line[1], line[2], line[3]
		switch {
		case method == "" && body != "":
			method = "POST"
		case method == "":
			method = "GET"
		}
		got := admin(s, method, path, body)
		require.Less(t, got.status, 300, line[0]+got.body)
		for _, f := range s.Faults() {
			documented[f.Kind] = true
		}
	}
	for _, kind := range kinds {
		require.True(t, documented[kind], "%s is not documented", kind)
	}
}

// TestAdminKeepsSecrets: nothing but the calls that make tokens tells one.
func TestAdminKeepsSecrets(t *testing.T) {
	s := newVault(t, Options{})
	_, err := s.Store(CredentialParams{Service: "github", AccessToken: secret.New("canary")})
	require.NoError(t, err)
	token := mint(t, s, MintParams{})
	askFor(s, token, "github")
	for _, path := range []string{"/grants", "/faults", "/exchanges", "/clock"} {
		got := admin(s, "GET", path, "")
		require.Equal(t, 200, got.status)
		for _, canary := range []string{"canary", token, testAPIKey} {
			require.NotContains(t, got.body, canary)
		}
	}
}

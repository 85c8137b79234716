package socketapi

import (
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/grantexd/grantexd/socketapi/access"
	"github.com/grantexd/grantexd/socketapi/wire"
)

func TestLoopbackAddresses(t *testing.T) {
	good := map[string]string{
		"127.0.0.1:8080": "127.0.0.1:8080", "127.1.2.3:0": "127.1.2.3:0", "localhost:80": "127.0.0.1:80",
		"LOCALHOST:65535": "127.0.0.1:65535", "[::1]:8080": "[::1]:8080", "[::ffff:127.0.0.1]:1": "127.0.0.1:1",
	}
	for s, want := range good {
		got, err := loopbackAddress(s)
		require.NoError(t, err, s)
		require.Equal(t, want, got.String())
	}
	for _, s := range []string{
		"", ":8080", "8080", "0.0.0.0:8080", "[::]:8080", "10.0.0.1:80", "192.168.1.1:80", "example.com:80",
		"localhost.evil.example:80", "127.0.0.1", "127.0.0.1:http", "127.0.0.1:65536", "127.0.0.1:-1", "128.0.0.1:80",
		"[fe80::1%lo]:80", "[::ffff:10.0.0.1]:80",
	} {
		_, err := loopbackAddress(s)
		require.ErrorContains(t, err, "listening address", s)
	}
}

func TestLoopbackHosts(t *testing.T) {
	require.Equal(t, []string{"localhost:8", "127.0.0.1:8", "[::1]:8", "127.0.0.2:8"}, loopbackHosts(netip.MustParseAddr("127.0.0.2"), 8))
	require.Contains(t, loopbackHosts(netip.MustParseAddr("::1"), 80), "[::1]")
	require.NotContains(t, loopbackHosts(netip.MustParseAddr("::1"), 81), "[::1]")
}

// startTCP serves on a loopback address and returns the base URL and the token.
func startTCP(t *testing.T, o Options) (*running, string, string) {
	t.Helper()
	l, err := ListenTCP(TCPOptions{Address: "127.0.0.1:0", TokenFile: filepath.Join(t.TempDir(), "d", "token"), Mode: 0o640})
	require.NoError(t, err)
	a, log := newAPI(t, o)
	run := &running{api: a, log: log, stop: serve(t, a, l)}
	token, err := os.ReadFile(l.TokenFile())
	require.NoError(t, err)
	return run, "http://" + l.Addr().String(), string(token)
}

func TestTCPDemandsTheLocalToken(t *testing.T) {
	source := newFakeSource("github")
	run, base, token := startTCP(t, Options{Source: source})
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	cases := []struct {
		name, authorization string
		code                wire.Code // "" for success
	}{
		{"right", "Bearer " + token, ""},
		{"another case of the scheme", "bearer " + token, ""},
		{"none", "", wire.CodeUnauthorized},
		{"empty", "Bearer ", wire.CodeUnauthorized},
		{"no scheme", token, wire.CodeUnauthorized},
		{"basic", "Basic " + token, wire.CodeUnauthorized},
		{"cut", "Bearer " + token[:len(token)-1], wire.CodeUnauthorized},
		{"longer", "Bearer " + token + "x", wire.CodeUnauthorized},
		{"two spaces", "Bearer  " + token, wire.CodeUnauthorized},
		{"a grant token", "Bearer eyJhbGciOiJSUzI1NiJ9.e30.c2ln", wire.CodeUnauthorized},
	}
	for _, c := range cases {
		for _, route := range everyRoute()[:10] {
			if route.path == "/metrics" {
				continue
			}
			t.Run(c.name+" "+route.method+route.path, func(t *testing.T) {
				if route.method == "" {
					route.method = http.MethodGet
				}
				r, err := http.NewRequest(route.method, base+route.path, strings.NewReader(route.body))
				require.NoError(t, err)
				r.Header = route.header.Clone()
				if r.Header == nil {
					r.Header = http.Header{}
				}
				if c.authorization != "" {
					r.Header.Set("Authorization", c.authorization)
				}
				w, err := transport.RoundTrip(r)
				require.NoError(t, err)
				body, err := io.ReadAll(w.Body)
				require.NoError(t, err)
				require.NoError(t, w.Body.Close())
				if c.code == "" {
					require.Equal(t, http.StatusOK, w.StatusCode, string(body))
					return
				}
				require.Equal(t, c.code.Status(), w.StatusCode)
				require.NotContains(t, string(body), token)
			})
		}
	}
	for _, r := range source.asked() {
		require.Equal(t, "tcp", r.Caller)
	}
	require.NotContains(t, run.log.String(), token)
}

func TestTCPDenialSaysWhereTheTokenIs(t *testing.T) {
	run, base, _ := startTCP(t, Options{Source: newFakeSource("github")})
	status, body, err := exchange(dialTCP(t, base), "GET /healthz HTTP/1.1\r\nHost: "+strings.TrimPrefix(base, "http://")+"\r\n\r\n")
	require.NoError(t, err)
	require.Equal(t, http.StatusUnauthorized, status)
	require.Contains(t, body, "/token")
	run.stop()
}

func dialTCP(t *testing.T, base string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(base, "http://"))
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	require.NoError(t, c.SetDeadline(time.Now().Add(20*time.Second)))
	return c
}

func TestTCPHostsAndBrowsers(t *testing.T) {
	_, base, token := startTCP(t, Options{Source: newFakeSource("github")})
	_, port, err := net.SplitHostPort(strings.TrimPrefix(base, "http://"))
	require.NoError(t, err)
	other, err := strconv.Atoi(port)
	require.NoError(t, err)
	cases := []struct {
		host, header string
		status       int
	}{
		{"localhost:" + port, "", 200},
		{"LocalHost:" + port, "", 200},
		{"127.0.0.1:" + port, "", 200},
		{"[::1]:" + port, "", 200},
		{"localhost", "", 403},
		{"127.0.0.1", "", 403},
		{fmt.Sprintf("localhost:%d", other+1), "", 403},
		{"grantexd:" + port, "", 403},
		{"grantexd", "", 403},
		{"evil.example:" + port, "", 403},
		{"localhost:" + port, "Origin: http://localhost:" + port + "\r\n", 403},
		{"localhost:" + port, "Referer: http://localhost:" + port + "/\r\n", 403},
	}
	for _, c := range cases {
		t.Run(c.host+c.header, func(t *testing.T) {
			status, body, err := exchange(dialTCP(t, base), "GET /healthz HTTP/1.1\r\nHost: "+c.host+
				"\r\nAuthorization: Bearer "+token+"\r\n"+c.header+"\r\n")
			require.NoError(t, err)
			require.Equal(t, c.status, status, body)
		})
	}
}

func TestTCPIsAPrincipalForRules(t *testing.T) {
	for _, c := range []struct {
		rule   access.Rule
		status int
	}{
		{access.Rule{Users: []string{"0", "1000"}, Services: []string{"*"}}, http.StatusForbidden},
		{access.Rule{Principals: []string{"tcp"}, Services: []string{"*"}}, http.StatusOK},
	} {
		_, base, token := startTCP(t, Options{Source: newFakeSource("github"), Access: rules(t, c.rule)})
		status, body, err := exchange(dialTCP(t, base), "GET /v1/credentials/github HTTP/1.1\r\nHost: "+
			strings.TrimPrefix(base, "http://")+"\r\nAuthorization: Bearer "+token+"\r\n\r\n")
		require.NoError(t, err)
		require.Equal(t, c.status, status, body)
	}
}

func TestTCPStopEndsIdleConnections(t *testing.T) {
	run, base, token := startTCP(t, Options{Source: newFakeSource("github")})
	c := dialTCP(t, base)
	status, _, err := exchange(c, "GET /healthz HTTP/1.1\r\nHost: "+strings.TrimPrefix(base, "http://")+
		"\r\nAuthorization: Bearer "+token+"\r\n\r\n")
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, status)
	run.stop()
	_, err = io.ReadAll(c)
	require.NoError(t, err)
}

func TestTCPOverTheLimit(t *testing.T) {
	_, base, token := startTCP(t, Options{Source: newFakeSource("github"), MaxConnsPerUID: 1})
	host := strings.TrimPrefix(base, "http://")
	request := "GET /healthz HTTP/1.1\r\nHost: " + host + "\r\nAuthorization: Bearer " + token + "\r\n\r\n"
	first := dialTCP(t, base)
	status, _, err := exchange(first, request)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, status)
	status, body, err := exchange(dialTCP(t, base), request)
	require.NoError(t, err)
	require.Equal(t, http.StatusTooManyRequests, status)
	require.Contains(t, body, "tcp has as many connections")
}

func TestTokenFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "d", "token")
	withUmask(t, 0o077)
	tokens := map[string]bool{}
	for mode, want := range map[fs.FileMode]fs.FileMode{0: 0o600, 0o600: 0o600, 0o660: 0o660, 0o777: 0o666} {
		l, err := ListenTCP(TCPOptions{Address: "localhost:0", TokenFile: path, Mode: mode})
		require.NoError(t, err)
		require.Equal(t, want, modeOf(t, path))
		content, err := os.ReadFile(path)
		require.NoError(t, err)
		require.Regexp(t, `^[A-Z2-7]{52}$`, string(content))
		tokens[string(content)] = true
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
			require.NotContains(t, fmt.Sprintf(verb+verb, l, struct{ l *TCPListener }{l}), string(content))
		}
		require.NoError(t, l.Close())
		require.NoError(t, l.Close(), "again")
		require.NoFileExists(t, path)
	}
	require.Len(t, tokens, 4, "a new one at each start")
	entries, err := os.ReadDir(filepath.Dir(path))
	require.NoError(t, err)
	require.Empty(t, entries, "nothing temporary is left")
}

func TestTokenFileOfTheNextDaemonStays(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	first, err := ListenTCP(TCPOptions{Address: "127.0.0.1:0", TokenFile: path})
	require.NoError(t, err)
	second, err := ListenTCP(TCPOptions{Address: "127.0.0.1:0", TokenFile: path})
	require.NoError(t, err)
	require.NoError(t, first.Close())
	require.FileExists(t, path)
	require.NoError(t, second.Close())
	require.NoFileExists(t, path)
}

func TestTokenFileGroup(t *testing.T) {
	needRoot(t)
	path := filepath.Join(t.TempDir(), "token")
	l, err := ListenTCP(TCPOptions{Address: "127.0.0.1:0", TokenFile: path, Mode: 0o640, Group: "12345"})
	require.NoError(t, err)
	defer func() { _ = l.Close() }()
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.EqualValues(t, 12345, info.Sys().(*syscall.Stat_t).Gid)
}

func TestListenTCPRefuses(t *testing.T) {
	dir := t.TempDir()
	good := TCPOptions{Address: "127.0.0.1:0", TokenFile: filepath.Join(dir, "token")}
	cases := map[string]struct {
		change func(*TCPOptions)
		want   string
	}{
		"an address for all":  {func(o *TCPOptions) { o.Address = "0.0.0.0:0" }, "loopback"},
		"no token file":       {func(o *TCPOptions) { o.TokenFile = "" }, "absolute"},
		"relative token file": {func(o *TCPOptions) { o.TokenFile = "token" }, "absolute"},
		"no directory":        {func(o *TCPOptions) { o.TokenFile = dir + "/a/b/token" }, "no such file"},
		"a directory":         {func(o *TCPOptions) { o.TokenFile = dir }, "token file"},
		"no such group":       {func(o *TCPOptions) { o.Group = "no-such-group-here" }, "no-such-group-here"},
		"a strange mode":      {func(o *TCPOptions) { o.Mode = fs.ModeDir }, "permission bits"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			o := good
			c.change(&o)
			_, err := ListenTCP(o)
			require.ErrorContains(t, err, c.want)
		})
	}
	taken, err := ListenTCP(good)
	require.NoError(t, err)
	defer func() { _ = taken.Close() }()
	_, err = ListenTCP(TCPOptions{Address: taken.Addr().String(), TokenFile: filepath.Join(dir, "other")})
	require.ErrorIs(t, err, syscall.EADDRINUSE)
	require.NoFileExists(t, filepath.Join(dir, "other"))
}

package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/grantexd/grantexd/daemon"
	"github.com/grantexd/grantexd/daemon/grant"
	"github.com/grantexd/grantexd/socketapi/access"
	"github.com/grantexd/grantexd/socketapi/wire"
	"github.com/grantexd/grantexd/upstream"
	"github.com/grantexd/grantexd/upstream/devvault"
)

// checkStage is a place where all is well, until a test spoils it.
type checkStage struct {
	*testing.T
	vault *recordedVault
	dir   string
	token string
	env   []string
}

func newCheckStage(t *testing.T) *checkStage {
	t.Helper()
	s := &checkStage{T: t, vault: newRecordedVault(t, devvault.Options{}), dir: t.TempDir()}
	s.token = s.vault.grant(t, devvault.MintParams{Scopes: []string{"github:read", "slack:*"}}).Reveal()
	for _, dir := range []string{s.dir, filepath.Dir(s.dir)} {
		require.NoError(t, os.Chmod(dir, 0o755)) // or nobody else could reach any file
	}
	s.write("grant", s.token, 0o600)
	s.write("config.yaml", "", 0o600)
	require.NoError(t, os.Mkdir(s.path("state"), 0o700))
	require.NoError(t, os.Mkdir(s.path("run"), 0o755))
	s.env = []string{
		"GRANTEXD_CONFIG=" + s.path("config.yaml"), "GRANTEXD_GRANT_FILE=" + s.path("grant"), "GRANTEXD_UPSTREAM=" + s.vault.url,
		"GRANTEXD_STATE_DIR=" + s.path("state"), "GRANTEXD_SOCKET=" + s.path("run/s.sock"),
		"GRANTEXD_GRANT_SETTLE=1ms",
	}
	return s
}

func (s *checkStage) path(name string) string { return filepath.Join(s.dir, name) }

func (s *checkStage) write(name, content string, mode os.FileMode) {
	s.Helper()
	require.NoError(s, os.WriteFile(s.path(name), []byte(content), mode))
	require.NoError(s, os.Chmod(s.path(name), mode)) // whatever the umask
}

func (s *checkStage) config(lines ...string) {
	s.Helper()
	s.write("config.yaml", strings.Join(lines, "\n")+"\n", 0o600)
}

// check runs grantexd check --json. No token is in what it prints.
func (s *checkStage) check(args ...string) (findings []finding, code int) {
	s.Helper()
	secrets := append(strings.Split(s.token, "."), "canary")
	r := runCommand(s.T, s.env, strings.NewReader(""), secrets, append([]string{"check", "--json"}, args...)...)
	var out struct{ Findings []finding }
	require.NoError(s, json.Unmarshal([]byte(r.out), &out), "%s%s", r.out, r.err)
	return slices.DeleteFunc(out.Findings, func(f finding) bool {
		// What lies above the test's own directory is the machine's.
		return f.Subject == "socket.path" && strings.Contains(f.Message, "above the directory of the socket")
	}), r.code
}

// requireFinding demands a line of this level and subject that holds text.
func requireFinding(t *testing.T, findings []finding, level, subject, text string) {
	t.Helper()
	for _, f := range findings {
		if f.Level == level && f.Subject == subject && strings.Contains(f.Message, text) {
			return
		}
	}
	t.Fatalf("no %s of %s with %q in %+v", level, subject, text, findings)
}

// requireWorst demands that no finding is worse than level.
func requireWorst(t *testing.T, findings []finding, level string) {
	t.Helper()
	rank := map[string]int{levelOK: 0, levelWarning: 1, levelError: 2}
	worst := levelOK
	for _, f := range findings {
		if rank[f.Level] > rank[worst] {
			worst = f.Level
		}
	}
	require.Equal(t, level, worst, "%+v", findings)
}

func TestCheckWhereAllIsWell(t *testing.T) {
	s := newCheckStage(t)
	findings, code := s.check()
	require.Equal(t, exitOK, code)
	requireWorst(t, findings, levelOK)
	for _, subject := range []string{
		"config", "state.dir", "grant.file", "grant.life", "grant.scopes", "socket.path", "socket.mode", "access",
		"upstream.url", "upstream.tls", "clock",
	} {
		requireFinding(t, findings, levelOK, subject, "")
	}
	requireFinding(t, findings, levelOK, "grant.file", "user_7")
	requireFinding(t, findings, levelOK, "grant.scopes", "github, slack")
	require.Equal(t, "/health", s.vault.last(t).path)
	require.Equal(t, 1, s.vault.count())
	require.Zero(t, s.vault.Exchanges().Total, "a check costs no exchange")
	require.NoFileExists(t, s.path("run/s.sock"), "a check changes nothing")
	entries, err := os.ReadDir(s.path("state"))
	require.NoError(t, err)
	require.Empty(t, entries)
}

func TestCheckOfflineAsksNobody(t *testing.T) {
	s := newCheckStage(t)
	findings, code := s.check("--offline")
	require.Equal(t, exitOK, code)
	require.Zero(t, s.vault.count())
	for _, f := range findings {
		require.NotContains(t, f.Subject, "upstream")
		require.NotEqual(t, "clock", f.Subject)
	}
}

// Each case spoils one thing.
func TestCheckFinds(t *testing.T) {
	for _, tt := range []struct {
		name           string
		spoil          func(*checkStage)
		level, subject string
		text           string
	}{
		{"an unknown key", func(s *checkStage) { s.config("grant:", "  flie: /x") }, levelError, "config", "config.yaml:2:3"},
		{"a configuration that is gone", func(s *checkStage) { require.NoError(s, os.Remove(s.path("config.yaml"))) }, levelError, "config", "can't be read"},
		{"a configuration that everybody may write", func(s *checkStage) { require.NoError(s, os.Chmod(s.path("config.yaml"), 0o666)) }, levelWarning, "config", "chmod o-w"},
		{"a misspelt variable", func(s *checkStage) { s.env = append(s.env, "GRANTEXD_GRANT_FIEL=x") }, levelWarning, "config", "GRANTEXD_GRANT_FILE"},
		{"no grant file", func(s *checkStage) { require.NoError(s, os.Remove(s.path("grant"))) }, levelError, "grant.file", "does not exist"},
		{"an empty grant file", func(s *checkStage) { s.write("grant", "\n", 0o600) }, levelError, "grant.file", "empty"},
		{"a grant file cut short", func(s *checkStage) { s.write("grant", s.token[:len(s.token)-9], 0o600) }, levelError, "grant.file", "cut short"},
		{"a grant file that others read", func(s *checkStage) { require.NoError(s, os.Chmod(s.path("grant"), 0o644)) }, levelWarning, "grant.file", "other users can read"},
		{"the same, strictly", func(s *checkStage) {
			require.NoError(s, os.Chmod(s.path("grant"), 0o644))
			s.config("grant:", "  strict: true")
		}, levelError, "grant.file", "refused"},
		{"an expired grant", func(s *checkStage) { s.mint(devvault.MintParams{Life: -time.Hour}) }, levelError, "grant.life", "expired"},
		{"a grant that soon ends", func(s *checkStage) { s.mint(devvault.MintParams{Life: 4 * time.Minute}) }, levelWarning, "grant.life", "put a new one"},
		{"a grant that opens nothing", func(s *checkStage) { s.mint(devvault.MintParams{Scopes: []string{"calendar:write"}}) }, levelError, "grant.scopes", "calendar:write"},
		{"a prefetched service that it doesn't open", func(s *checkStage) { s.env = append(s.env, "GRANTEXD_PREFETCH=github,jira") }, levelWarning, "cache.prefetch", "jira:read"},
		{"a state directory that is a file", func(s *checkStage) {
			require.NoError(s, os.Remove(s.path("state")))
			s.write("state", "", 0o600)
		}, levelWarning, "state.dir", "no directory"},
		{"a state directory that others may write", func(s *checkStage) { require.NoError(s, os.Chmod(s.path("state"), 0o770)) }, levelWarning, "state.dir", "chmod go-w"},
		{"a ledger below a file", func(s *checkStage) { s.config("budget:", "  ledger: "+s.path("grant/ledger")) }, levelWarning, "budget.ledger", "spread out"},
		{"an audit below a file", func(s *checkStage) { s.config("audit:", "  file: "+s.path("grant/audit")) }, levelWarning, "audit.file", "without an audit"},
		{"certificates that are gone", func(s *checkStage) { s.config("upstream:", "  ca-file: "+s.path("ca.pem")) }, levelError, "upstream.ca-file", "can't be read"},
		{"a file where the socket should be", func(s *checkStage) { s.write("run/s.sock", "", 0o600) }, levelError, "socket.path", "no socket"},
		{"a link where the socket should be", func(s *checkStage) { require.NoError(s, os.Symlink("/dev/null", s.path("run/s.sock"))) }, levelError, "socket.path", "symbolic link"},
		{"a directory that others may write", func(s *checkStage) { require.NoError(s, os.Chmod(s.path("run"), 0o777)) }, levelWarning, "socket.path", "could replace the socket"},
		{"the same, strictly", func(s *checkStage) {
			require.NoError(s, os.Chmod(s.path("run"), 0o777))
			s.config("socket:", "  strict: true")
		}, levelError, "socket.path", "could replace the socket"},
		{"a socket for everybody", func(s *checkStage) { s.config("socket:", `  mode: "0666"`) }, levelWarning, "socket.mode", "every user"},
		{"a group that does not exist", func(s *checkStage) { s.config("socket:", `  mode: "0660"`, "  group: no-such-group") }, levelError, "socket.group", "no group"},
		{"nobody allowed", func(s *checkStage) { s.config("access: []") }, levelWarning, "access", "nobody"},
		{"rules that name units", func(s *checkStage) { s.config("access:", "- units: [a.service]", "  services: ['*']") }, levelWarning, "access", "ProtectProc"},
		{"a vault that is gone", func(s *checkStage) { s.upstream("http://127.0.0.1:1") }, levelError, "upstream.url", "refused"},
		{"something that is no vault", func(s *checkStage) { s.upstream(s.vault.url + "/nowhere") }, levelError, "upstream.url", "without /v1"},
		{"a vault that is unwell", func(s *checkStage) {
			_, err := s.vault.AddFault(devvault.Fault{Kind: devvault.FaultStatus, Status: 503, On: devvault.OnHealth})
			require.NoError(s, err)
		}, levelWarning, "upstream.url", "503"},
		{"a vault whose clock is ahead", func(s *checkStage) { s.vault.SetClockOffset(8 * time.Second) }, levelWarning, "clock", "differs"},
		{"a vault whose clock is behind", func(s *checkStage) { s.vault.SetClockOffset(-8 * time.Second) }, levelWarning, "clock", "differs"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newCheckStage(t)
			tt.spoil(s)
			findings, code := s.check()
			requireFinding(t, findings, tt.level, tt.subject, tt.text)
			requireWorst(t, findings, tt.level)
			want := exitOK
			if tt.level == levelError {
				want = exitFailure
			}
			require.Equal(t, want, code)
		})
	}
}

func (s *checkStage) mint(p devvault.MintParams) {
	s.Helper()
	s.token = s.vault.grant(s.T, p).Reveal()
	s.write("grant", s.token, 0o600)
}

func (s *checkStage) upstream(url string) {
	s.env = slices.DeleteFunc(s.env, func(entry string) bool { return strings.HasPrefix(entry, "GRANTEXD_UPSTREAM=") })
	s.env = append(s.env, "GRANTEXD_UPSTREAM="+url)
}

func TestCheckMentionsAProblemOnce(t *testing.T) {
	s := newCheckStage(t)
	require.NoError(t, os.Chmod(s.path("grant"), 0o644))
	findings, _ := s.check("--offline")
	var said []string
	for _, f := range findings {
		if f.Level != levelOK {
			said = append(said, f.Message)
		}
	}
	require.Len(t, said, 1, "%q", said)
}

func TestCheckAs(t *testing.T) {
	rules := []string{
		"access:",
		"- name: agents", "  users: [4711]", "  services: [github, 'slack*']",
		"- name: backup", "  groups: [4712]", "  services: ['*']",
	}
	for _, tt := range []struct {
		name    string
		config  []string
		args    []string
		level   string
		message string
	}{
		{"no rules", nil, []string{"4711:1", "github"}, levelOK, "may read github: there are no access rules"},
		{"the first rule", rules, []string{"4711:1", "github"}, levelOK, `may read github: allowed by the rule "agents"`},
		{"the first rule, by its glob", rules, []string{"4711:1", "slack-bot"}, levelOK, `allowed by the rule "agents"`},
		{"the second rule", rules, []string{"1:4712", "github"}, levelOK, `allowed by the rule "backup"`},
		{"what a rule that does not decide says", rules, []string{"1:4712", "github"}, levelOK, "agents does not allow it: the caller's user: 1; it is for 4711"},
		{"the wrong service", rules, []string{"4711:1", "jira"}, levelWarning, "uid:4711 may not read jira"},
		{"the wrong user", rules, []string{"4710:1", "github"}, levelWarning, "uid:4710 may not read github"},
		{"names", rules, []string{"root:root", "github"}, levelWarning, "uid:0 may not read github"},
		{"a user that does not exist", rules, []string{"no-such-user:1", "github"}, levelError, "no such user"},
		{"a group that does not exist", rules, []string{"1:no-such-group", "github"}, levelError, "no such group"},
		{"no group", rules, []string{"1", "github"}, levelError, "UID:GID"},
		{"an empty user", rules, []string{":1", "github"}, levelError, "UID:GID"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newCheckStage(t)
			s.config(tt.config...)
			findings, code := s.check("--offline", "--as", tt.args[0], tt.args[1])
			requireFinding(t, findings, tt.level, "access.as", tt.message)
			require.Equal(t, tt.level == levelError, code == exitFailure)
		})
	}
}

func TestCheckRefusesWrongArguments(t *testing.T) {
	for _, tt := range []struct {
		name string
		args []string
		text string
	}{
		{"a service without --as", []string{"canary"}, "only with --as"},
		{"--as without a service", []string{"--as", "1:1"}, "one service"},
		{"--as with two", []string{"--as", "1:1", "canary", "canary"}, "one service"},
		{"what can't be a service", []string{"--as", "1:1", "canary/.."}, "letters"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := runCommand(t, nil, strings.NewReader(""), []string{"canary"}, append([]string{"check"}, tt.args...)...)
			require.Equal(t, exitUsage, r.code)
			require.Contains(t, r.err, tt.text)
			require.Empty(t, r.out)
		})
	}
}

// A private CA is the one way to a vault whose certificate no system knows.
func TestCheckTLS(t *testing.T) {
	s := newCheckStage(t)
	web := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.vault.Handler().ServeHTTP(w, r) }))
	web.Config.ErrorLog = log.New(io.Discard, "", 0) // it tells of the refused handshake
	web.StartTLS()
	defer web.Close()
	s.upstream(web.URL)
	findings, code := s.check()
	require.Equal(t, exitFailure, code)
	requireFinding(t, findings, levelError, "upstream.url", "upstream.ca-file")

	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: web.Certificate().Raw})
	s.write("ca.pem", string(block), 0o644)
	findings, code = s.check("--ca-file", s.path("ca.pem"))
	require.Equal(t, exitOK, code)
	requireFinding(t, findings, levelOK, "upstream.tls", "TLS 1.3")
}

func TestCheckWarnsOfAnEndingCertificate(t *testing.T) {
	now := time.Date(2031, 2, 3, 4, 5, 6, 0, time.UTC)
	for _, tt := range []struct {
		left  time.Duration
		level string
	}{
		{certificateNotice, levelOK},
		{certificateNotice - time.Second, levelWarning},
		{-time.Hour, levelWarning},
	} {
		t.Run(tt.left.String(), func(t *testing.T) {
			c := &checkup{}
			seen := &handshake{state: &tls.ConnectionState{
				Version: tls.VersionTLS13, PeerCertificates: []*x509.Certificate{{NotAfter: now.Add(tt.left)}},
			}}
			c.checkTLS(seen, "https://vault.example", now)
			require.Len(t, c.findings, 1)
			require.Equal(t, tt.level, c.findings[0].Level)
		})
	}
	c := &checkup{}
	c.checkTLS(&handshake{}, "https://vault.example", now)
	require.Empty(t, c.findings, "a connection that was not made has no certificate")
}

func TestCheckLife(t *testing.T) {
	now := time.Date(2031, 2, 3, 4, 5, 6, 0, time.UTC)
	for _, tt := range []struct {
		name       string
		life, left time.Duration
		level      string
	}{
		{"more than a tenth", 24 * time.Hour, 144 * time.Minute, levelOK},
		{"less than a tenth", 24 * time.Hour, 144*time.Minute - time.Second, levelWarning},
		{"five minutes", 10 * time.Minute, 5 * time.Minute, levelOK},
		{"less than five minutes", 10 * time.Minute, 5*time.Minute - time.Second, levelWarning},
		{"the last second", 10 * time.Minute, time.Second, levelWarning},
		{"its end", 10 * time.Minute, 0, levelError},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := &checkup{}
			ends := now.Add(tt.left)
			c.checkLife(grant.Claims{IssuedAt: ends.Add(-tt.life), ExpiresAt: ends}, now)
			require.Len(t, c.findings, 1)
			require.Equal(t, tt.level, c.findings[0].Level, c.findings[0].Message)
		})
	}
	c := &checkup{}
	c.checkLife(grant.Claims{}, now)
	requireFinding(t, c.findings, levelWarning, "grant.life", "does not say")
}

func TestServicesOf(t *testing.T) {
	for _, tt := range []struct {
		scope    string
		services []string
	}{
		{"*", []string{everyService}},
		{"vault:credentials:exchange", []string{everyService}},
		{"VAULT:credentials:EXCHANGE", []string{everyService}},
		{"github:*", []string{"github"}},
		{"github:read", []string{"github"}},
		{"github:credentials:read", []string{"github"}},
		{"vault:github:*", []string{"github"}},
		{"vault:github:read", []string{"github"}},
		{"github:write", nil},
		{"github", nil},
		{"", nil},
		{"vault:credentials", nil},
	} {
		t.Run(tt.scope, func(t *testing.T) {
			services, others := servicesOf([]string{tt.scope})
			require.Equal(t, tt.services == nil, len(others) == 1)
			for _, service := range services {
				if service != everyService {
					require.True(t, upstream.Covers([]string{tt.scope}, service))
				}
			}
			require.Equal(t, fmt.Sprint(tt.services), fmt.Sprint(services))
		})
	}
	services, others := servicesOf([]string{"slack:read", "github:*", "slack:*", "x:write"})
	require.Equal(t, []string{"github", "slack"}, services)
	require.Equal(t, []string{"x:write"}, others)
}

func TestCheckClock(t *testing.T) {
	for _, tt := range []struct {
		offset time.Duration
		level  string
	}{
		{0, levelOK},
		{clockTolerance, levelOK}, {-clockTolerance, levelOK},
		{clockTolerance + time.Millisecond, levelWarning}, {-clockTolerance - time.Millisecond, levelWarning},
	} {
		t.Run(tt.offset.String(), func(t *testing.T) {
			c := &checkup{}
			c.checkClock(upstream.HealthResult{Date: time.Now(), ClockOffset: tt.offset})
			requireFinding(t, c.findings, tt.level, "clock", "")
		})
	}
	c := &checkup{}
	c.checkClock(upstream.HealthResult{})
	requireFinding(t, c.findings, levelWarning, "clock", "can't be compared")
}

func TestCheckOfARunningDaemon(t *testing.T) {
	well := wire.Status{Version: build().Version, Ready: true, Grant: wire.Grant{State: "usable", File: "/grant"}}
	for _, tt := range []struct {
		name  string
		spoil func(*wire.Status)
		level string
		text  string
	}{
		{"well", func(*wire.Status) {}, levelOK, "ready"},
		{"no grant", func(s *wire.Status) { s.Grant.State, s.Grant.Problem = "absent", "put one there" }, levelError, "absent: put one there"},
		{"a rejected grant", func(s *wire.Status) { s.Grant.State = "rejected" }, levelError, "rejected: grantexd status"},
		{"not ready", func(s *wire.Status) { s.Ready = false }, levelWarning, "not ready"},
		{"another version", func(s *wire.Status) { s.Version = "0.0.1" }, levelWarning, "restart"},
		{"another grant file", func(s *wire.Status) { s.Grant.File = "/other" }, levelWarning, "/other"},
		{"a warning of its own", func(s *wire.Status) { s.Warnings = []string{"the disk is full"} }, levelWarning, "the disk is full"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			status := well
			tt.spoil(&status)
			c := &checkup{config: &daemon.Config{Grant: daemon.GrantConfig{File: "/grant"}}}
			c.checkRunning(status)
			requireFinding(t, c.findings, tt.level, "daemon", tt.text)
			requireWorst(t, c.findings, tt.level)
		})
	}
}

// A daemon that runs with the same configuration is found, and well.
func TestCheckBesideADaemon(t *testing.T) {
	s := newCheckStage(t)
	config, warnings, err := daemon.Load(daemon.LoadOptions{Env: s.env})
	require.NoError(t, err)
	require.Empty(t, warnings)
	ctx, stop := context.WithCancel(t.Context())
	started, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- daemon.Run(ctx, config, daemon.RunOptions{
			Version: build().Version, Started: func([]string) { close(started) },
		})
	}()
	select {
	case <-started:
	case err := <-ended:
		t.Fatal(err)
	}
	findings, code := s.check()
	require.Equal(t, exitOK, code)
	requireFinding(t, findings, levelOK, "daemon", "ready")
	requireFinding(t, findings, levelOK, "socket.path", "a daemon answers")
	requireWorst(t, findings, levelOK)
	stop()
	require.NoError(t, <-ended)
}

func TestCallerOf(t *testing.T) {
	caller, err := callerOf("4711:4712")
	require.NoError(t, err)
	uid, known := caller.UID.Get()
	require.True(t, known)
	require.EqualValues(t, 4711, uid)
	gid, known := caller.GID.Get()
	require.True(t, known)
	require.EqualValues(t, 4712, gid)
	_, err = accountID("4294967296", access.Host{}.UID)
	require.Error(t, err, "a number that no user can have")
}

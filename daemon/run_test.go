package daemon_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/grantexd/grantexd/daemon"
	"github.com/grantexd/grantexd/socketapi/access"
	"github.com/grantexd/grantexd/socketapi/client"
	"github.com/grantexd/grantexd/socketapi/wire"
	"github.com/grantexd/grantexd/upstream/devvault"
	"github.com/grantexd/grantexd/upstream/secret"
)

const (
	canaryToken = "gho_canary3f9c1b7e5d"
	slackToken  = "xoxb-canary-77c1a0"
)

// host is a daemon on the embedded vault, in one process, on real sockets.
type host struct {
	t         *testing.T
	vault     *devvault.Server
	config    *daemon.Config
	client    *client.Client
	log       *lockedBuffer
	grantFile string
	hangup    chan os.Signal
	reload    func() (*daemon.Config, []daemon.Warning, error)
	// jwts are all grant tokens ever used, for canary tests.
	jwts []string
	stop func() error
}

// signingKey is made once for all vaults of the tests.
var signingKey = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
})

// lockedBuffer collects the log while the daemon runs.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// newHost prepares a vault with two credentials and a grant file, and starts
// nothing.
func newHost(t *testing.T) *host {
	t.Helper()
	vault, err := devvault.New(devvault.Options{SigningKey: signingKey()})
	require.NoError(t, err)
	server := httptest.NewServer(vault.Handler())
	t.Cleanup(server.Close)
	for service, token := range map[string]string{"github": canaryToken, "slack": slackToken} {
		_, err := vault.Store(devvault.CredentialParams{Service: service, AccessToken: secret.New(token), ExpiresAt: time.Now().Add(time.Hour)})
		require.NoError(t, err)
	}
	dir := t.TempDir()
	config := daemon.Defaults()
	config.Upstream.URL = server.URL
	config.Grant.File = filepath.Join(dir, "grant")
	config.State.Dir = filepath.Join(dir, "state")
	config.Socket.Path = filepath.Join(dir, "run", "grantexd.sock")
	h := &host{
		t: t, vault: vault, config: &config, grantFile: config.Grant.File, log: &lockedBuffer{},
		client: &client.Client{Socket: config.Socket.Path}, hangup: make(chan os.Signal),
	}
	t.Cleanup(h.client.CloseIdleConnections)
	h.mint("")
	return h
}

// mint puts a token of the grant, "" for a new one, into the grant file.
func (h *host) mint(grantID string) devvault.Claims {
	h.t.Helper()
	token, claims, err := h.vault.Mint(devvault.MintParams{GrantID: grantID})
	require.NoError(h.t, err)
	h.jwts = append(h.jwts, token.Reveal())
	next := h.grantFile + ".next"
	require.NoError(h.t, os.WriteFile(next, []byte(token.Reveal()), 0o600))
	require.NoError(h.t, os.Rename(next, h.grantFile))
	return claims
}

// start runs the daemon until the test ends or h.stop is called, and returns how
// long it took to answer.
func (h *host) start() time.Duration {
	h.t.Helper()
	ctx, cancel := context.WithCancel(h.t.Context())
	started, done := make(chan []string, 1), make(chan error, 1)
	began := time.Now()
	go func() {
		done <- daemon.Run(ctx, h.config, daemon.RunOptions{
			Logger:  slog.New(slog.NewTextHandler(h.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
			Version: "test", Hangup: h.hangup, Reload: func() (*daemon.Config, []daemon.Warning, error) { return h.reload() },
			Started: func(addresses []string) { started <- addresses },
		})
	}()
	h.stop = sync.OnceValue(func() error {
		cancel()
		return <-done
	})
	h.t.Cleanup(func() { require.NoError(h.t, h.stop(), h.log) })
	select {
	case addresses := <-started:
		require.Contains(h.t, addresses, h.config.Socket.Path)
	case err := <-done:
		done <- err
		h.t.Fatalf("the daemon did not start: %v\n%s", err, h.log)
	}
	return time.Since(began)
}

func (h *host) get(service string) (string, error) {
	c, _, err := h.client.Get(h.t.Context(), service, client.GetOptions{})
	if err != nil {
		return "", err
	}
	return c.AccessToken.Reveal(), nil
}

func (h *host) want(service, token string) {
	h.t.Helper()
	got, err := h.get(service)
	require.NoError(h.t, err)
	require.Equal(h.t, token, got)
}

func (h *host) refuse(service string, code wire.Code) *wire.Error {
	h.t.Helper()
	_, err := h.get(service)
	var e *wire.Error
	require.ErrorAs(h.t, err, &e)
	require.Equal(h.t, code, e.Code, e.Message)
	return e
}

// becomes waits until a read of service fails with code, "" for a success.
func (h *host) becomes(service string, code wire.Code, within time.Duration) {
	h.t.Helper()
	require.Eventually(h.t, func() bool {
		_, err := h.get(service)
		var e *wire.Error
		return code == "" && err == nil || errors.As(err, &e) && e.Code == code
	}, within, 10*time.Millisecond, h.log)
}

func TestFromGrantFileToCredential(t *testing.T) {
	h := newHost(t)
	took := h.start()
	require.Less(t, took, time.Second, "ready to answer")
	h.want("github", canaryToken)
	h.want("github", canaryToken)
	h.want("slack", slackToken)
	require.Equal(t, 2, h.vault.Exchanges().Total)
	h.refuse("missing", wire.CodeNotFound)
	require.NoError(t, h.client.Ready(t.Context()))
	st, err := h.client.Status(t.Context())
	require.NoError(t, err)
	require.Equal(t, "usable", st.Grant.State)
	require.Equal(t, 3, st.Budget.Used)
	require.Equal(t, 2, st.Cache.Held)
	require.Equal(t, "ok", st.Upstream.State)
	e, err := h.client.Explain(t.Context(), "github", "")
	require.NoError(t, err)
	require.Equal(t, "held", e.State)
	require.True(t, e.Allowed)
	require.NotEmpty(t, e.Summary)
}

func TestRotationIsSeenWithinASecond(t *testing.T) {
	h := newHost(t)
	h.start()
	h.want("github", canaryToken)
	before := h.vault.Exchanges().Total
	h.mint("")
	require.Eventually(t, func() bool {
		h.want("github", canaryToken)
		return h.vault.Exchanges().Total > before
	}, time.Second, 10*time.Millisecond, "another consent is asked for anew")
}

func TestRemovalStopsCredentialsWithinThreeSeconds(t *testing.T) {
	h := newHost(t)
	h.start()
	h.want("github", canaryToken)
	require.NoError(t, os.Remove(h.grantFile))
	h.becomes("github", wire.CodeGrantUnavailable, 3*time.Second)
	require.Error(t, h.client.Ready(t.Context()))
	h.mint("")
	h.becomes("github", "", 2*time.Second)
}

func TestRevocationAtTheVault(t *testing.T) {
	h := newHost(t)
	h.config.Cache.ConfirmInterval, h.config.Cache.ConfirmLead = time.Second, time.Millisecond
	claims := h.mint("")
	h.start()
	h.want("github", canaryToken)
	require.NoError(t, h.vault.Revoke(claims.GrantID))
	h.becomes("github", wire.CodeUnauthorized, 3*time.Second)
	st, err := h.client.Status(t.Context())
	require.NoError(t, err)
	require.Equal(t, "rejected", st.Grant.State)
	require.Zero(t, st.Cache.Held)
	h.mint("")
	h.becomes("github", "", 2*time.Second)
}

func TestNoGrantFile(t *testing.T) {
	h := newHost(t)
	require.NoError(t, os.Remove(h.grantFile))
	h.start()
	e := h.refuse("github", wire.CodeGrantUnavailable)
	require.Contains(t, e.Message, h.grantFile, "it says which file")
	require.NoError(t, h.client.Health(t.Context()), "it is alive all the same")
	h.mint("")
	h.becomes("github", "", 2*time.Second)
}

func TestGarbageInTheGrantFile(t *testing.T) {
	h := newHost(t)
	require.NoError(t, os.WriteFile(h.grantFile, []byte("garbage"), 0o600))
	h.start()
	reason := "there is no usable grant token: " + h.grantFile + ": not a JWT"
	e := h.refuse("github", wire.CodeGrantUnavailable)
	require.True(t, strings.HasPrefix(e.Message, reason), e.Message)
	x, err := h.client.Explain(t.Context(), "github", "")
	require.NoError(t, err)
	require.Contains(t, strings.Join(x.Summary, "\n"), "A read is refused: "+reason)
	st, err := h.client.Status(t.Context())
	require.NoError(t, err)
	warnings := strings.Join(st.Warnings, "\n")
	require.Equal(t, 1, strings.Count(warnings, "not a JWT"), warnings)
	require.Contains(t, warnings, reason)
	h.mint("")
	h.becomes("github", "", 2*time.Second)
}

func TestGarbageAfterARejection(t *testing.T) {
	const stays = "the last good token stays in use"
	h := newHost(t)
	h.start()
	h.want("github", canaryToken)
	require.NoError(t, os.WriteFile(h.grantFile, []byte("garbage"), 0o600))
	problem := func(about string) string {
		var st wire.Status
		require.Eventually(t, func() bool {
			var err error
			st, err = h.client.Status(t.Context())
			return err == nil && strings.Contains(st.Grant.Problem, about)
		}, 5*time.Second, 10*time.Millisecond, h.log)
		return st.Grant.Problem + strings.Join(st.Warnings, "\n")
	}
	require.Contains(t, problem("not a JWT"), stays, "while the vault accepts it")
	_, err := h.vault.AddFault(devvault.Fault{Kind: "unauthorized", Times: 2})
	require.NoError(t, err)
	h.refuse("slack", wire.CodeUnauthorized)
	require.NotContains(t, problem("the vault rejected the last good token"), stays)
}

func TestAStateDirectoryThatCantBeMade(t *testing.T) {
	h := newHost(t)
	plain := filepath.Join(t.TempDir(), "plain")
	require.NoError(t, os.WriteFile(plain, nil, 0o600))
	h.config.State.Dir = filepath.Join(plain, "state")
	h.start()
	require.Equal(t, 1, strings.Count(h.log.String(), "the state directory can't be used"))
	require.Contains(t, h.log.String(), "dir="+h.config.State.Dir)
	require.Contains(t, h.log.String(), "set state.dir")
	require.NotContains(t, h.log.String(), "fingerprint.key")
	st, err := h.client.Status(t.Context())
	require.NoError(t, err)
	require.Equal(t, 1, strings.Count(strings.Join(st.Warnings, "\n"), "the state directory "+h.config.State.Dir))
	h.want("github", canaryToken)
}

func TestAStopIsLogged(t *testing.T) {
	h := newHost(t)
	h.start()
	require.NotContains(t, h.log.String(), "grantexd is stopping")
	require.NoError(t, h.stop())
	stopping, stopped := strings.Index(h.log.String(), "grantexd is stopping"), strings.Index(h.log.String(), "grantexd has stopped")
	require.Positive(t, stopping)
	require.Greater(t, stopped, stopping)
}

func TestReloadChangesRulesAndLeavesConnectionsOpen(t *testing.T) {
	h := newHost(t)
	h.start()
	h.want("github", canaryToken)
	next := *h.config
	next.Access = []access.Rule{{Name: "slack only", Users: []string{"0", "1000"}, Services: []string{"slack"}}}
	h.reload = func() (*daemon.Config, []daemon.Warning, error) { return &next, nil, nil }
	h.hangup <- os.Interrupt
	h.becomes("github", wire.CodePeerDenied, 2*time.Second)

	h.reload = func() (*daemon.Config, []daemon.Warning, error) { return nil, nil, os.ErrInvalid }
	h.hangup <- os.Interrupt
	h.hangup <- os.Interrupt // the first one has been worked through
	h.refuse("github", wire.CodePeerDenied)
	require.Contains(t, h.log.String(), "nothing was changed")
}

func TestNoTokenInLogsErrorsOrMetrics(t *testing.T) {
	h := newHost(t)
	h.start()
	h.want("github", canaryToken)
	h.want("slack", slackToken)
	h.refuse("missing", wire.CodeNotFound)
	require.NoError(t, os.WriteFile(h.grantFile, []byte("garbage "+h.jwts[0][:200]), 0o600))
	_, err := h.vault.AddFault(devvault.Fault{Kind: "unauthorized", Times: 2})
	require.NoError(t, err)
	h.refuse("jira", wire.CodeUnauthorized)

	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", h.config.Socket.Path)
	}}
	defer transport.CloseIdleConnections()
	var seen bytes.Buffer
	for _, path := range []string{wire.PathStatus, wire.PathMetrics, wire.PathCredentials, wire.PathExplain + "/github", wire.PathReady} {
		resp, err := (&http.Client{Transport: transport}).Get("http://grantexd" + path)
		require.NoError(t, err)
		_, err = seen.ReadFrom(resp.Body)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
	}
	require.NoError(t, h.stop())
	require.Contains(t, seen.String(), "grantexd_exchanges_total")
	all := h.log.String() + seen.String()
	for _, canary := range append(h.jwts, canaryToken, slackToken) {
		for _, piece := range []string{canary, canary[:len(canary)/2], canary[len(canary)/2:]} {
			require.NotContains(t, all, piece)
		}
	}
	require.Contains(t, all, "github", "the audit names the service")
}

func TestARestartLeavesNothingInTheWay(t *testing.T) {
	h := newHost(t)
	for range 3 {
		h.start()
		h.want("github", canaryToken)
		require.NoError(t, h.stop())
		h.client.CloseIdleConnections()
		require.NoFileExists(t, h.config.Socket.Path)
	}
	require.Equal(t, 3, h.vault.Exchanges().Total)
}

package daemon_test

import (
	"context"
	"crypto/sha256"
	"log/slog"
	"net"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/grantexd/grantexd/daemon/broker"
	"github.com/grantexd/grantexd/daemon/grant"
	"github.com/grantexd/grantexd/upstream"
	"github.com/grantexd/grantexd/upstream/budget"
	"github.com/grantexd/grantexd/upstream/devvault"
	"github.com/grantexd/grantexd/upstream/secret"
)

const (
	// faultAttempt and faultFlight end an attempt and a flight of the rig's: long
	// enough for a busy machine, and short enough to be waited for.
	faultAttempt = 200 * time.Millisecond
	faultFlight  = 500 * time.Millisecond
	// faultSlack is what a busy machine may add.
	faultSlack = time.Second
	// atOnce is how fast a failure is told that waiting can't mend.
	atOnce = 100 * time.Millisecond
)

// faultRig is client, budget and broker joined as the daemon joins them, with a
// poisonable network between them and the embedded vault.
type faultRig struct {
	t       *testing.T
	vault   *devvault.Server
	network *network
	budget  *budget.Budget
	broker  *broker.Broker
	log     *lockedBuffer
	// grantID is that of the grant in use.
	grantID string
	// reread is called where the daemon reads the grant file anew; nil does
	// nothing. It is set before anybody asks.
	reread func()
	// stop ends the broker's Run and waits for it.
	stop func()
}

// faultOptions adjust a rig. The zero value is the daemon's, but for the times.
type faultOptions struct {
	vault  devvault.Options
	budget budget.Options
	broker broker.Tunables
}

func newFaultRig(t *testing.T, o faultOptions) *faultRig {
	t.Helper()
	t.Parallel()
	o.vault.SigningKey, o.vault.NoDeveloperLimits = signingKey(), true
	vault, err := devvault.New(o.vault)
	require.NoError(t, err)
	server := httptest.NewServer(vault.Handler())
	t.Cleanup(func() {
		_ = vault.Close() // calls that hang would keep the server from closing
		server.CloseClientConnections()
		server.Close()
	})
	r := &faultRig{t: t, vault: vault, log: &lockedBuffer{}}
	for _, service := range []string{"github", "slack", "jira", "gitlab"} {
		r.store(service, canaryToken+service, time.Hour)
	}
	r.network = inFrontOf(t, server.URL)
	r.budget, err = budget.New(o.budget)
	require.NoError(t, err)
	client, err := upstream.New(upstream.Options{
		BaseURL: "http://" + r.network.proxy.Listen, Wrap: r.budget.Transport, AttemptTimeout: faultAttempt,
		RetryWaitMin: time.Millisecond, RetryWaitMax: 2 * time.Millisecond,
	})
	require.NoError(t, err)
	t.Cleanup(client.CloseIdleConnections)
	o.broker.FlightTimeout = faultFlight
	if o.broker.CooldownMin == 0 {
		o.broker.CooldownMin = 100 * time.Millisecond
	}
	r.broker, err = broker.New(broker.Options{
		Upstream: client, Tunables: o.broker,
		Reread: func(context.Context) error {
			if r.reread != nil {
				r.reread()
			}
			return nil
		},
		Fingerprint: func(s secret.Text) string { return s.Reveal() },
		Render:      func(c *upstream.Credential, _ string) any { return c.AccessToken.Reveal() },
		Logger:      slog.New(slog.NewTextHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	require.NoError(t, err)
	r.newGrant()
	r.run()
	return r
}

// inFrontOf starts a proxy in front of the vault at address.
func inFrontOf(t *testing.T, address string) *network {
	t.Helper()
	vault, err := url.Parse(address)
	require.NoError(t, err)
	zerolog.SetGlobalLevel(zerolog.Disabled) // its toxics log past the logger that they are given
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	proxy := toxiproxy.NewProxy(server, t.Name(), "127.0.0.1:0", vault.Host)
	require.NoError(t, proxy.Start())
	t.Cleanup(proxy.Stop)
	return &network{t: t, proxy: proxy}
}

func (r *faultRig) run() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.broker.Run(ctx) }()
	r.stop = sync.OnceFunc(func() {
		cancel()
		require.NoError(r.t, <-done)
	})
	r.t.Cleanup(func() {
		r.stop()
		require.NotContains(r.t, r.log.String(), canaryToken)
		require.NotContains(r.t, r.log.String(), "eyJ", "the beginning of every grant token")
	})
}

func (r *faultRig) store(service, token string, life time.Duration) {
	r.t.Helper()
	_, err := r.vault.Store(devvault.CredentialParams{
		Service: service, AccessToken: secret.New(token), ExpiresAt: time.Now().Add(life),
	})
	require.NoError(r.t, err)
}

// newGrant puts a token of a new grant into use.
func (r *faultRig) newGrant() {
	r.t.Helper()
	token, claims, err := r.vault.Mint(devvault.MintParams{})
	require.NoError(r.t, err)
	r.grantID = claims.GrantID
	r.broker.SetGrant(grant.Snapshot{State: grant.Usable, Grant: &grant.Grant{
		Token: token, Hash: sha256.Sum256([]byte(token.Reveal())),
		Claims: grant.Claims{
			GrantID: claims.GrantID, Subject: claims.Principal, Developer: claims.Developer,
			Scopes: claims.Scopes, ScopesKnown: true, ExpiresAt: claims.ExpiresAt.Time,
		},
	}})
}

// misbehaves adds a fault of the vault's own.
func (r *faultRig) misbehaves(f devvault.Fault) {
	r.t.Helper()
	_, err := r.vault.AddFault(f)
	require.NoError(r.t, err)
}

// faultAnswer is how a read ended.
type faultAnswer struct {
	token string
	err   error
	took  time.Duration
}

func (r *faultRig) ask(service, caller string, wait time.Duration) faultAnswer {
	began := time.Now()
	a, err := r.broker.Get(context.Background(), broker.Request{Service: service, Caller: caller, Wait: wait})
	answer := faultAnswer{err: err, took: time.Since(began)}
	if err == nil {
		answer.token = a.Rendered.(string)
	}
	return answer
}

// gather makes the vault think for as long as a crowd needs to come together on
// a busy machine.
func (r *faultRig) gather() {
	r.misbehaves(devvault.Fault{Kind: devvault.FaultLatency, Delay: faultAttempt / 3})
}

// crowd lets that many callers ask at the same time.
func (r *faultRig) crowd(n int, service func(i int) string, wait time.Duration) []faultAnswer {
	answers := make([]faultAnswer, n)
	var callers sync.WaitGroup
	for i := range n {
		callers.Go(func() { answers[i] = r.ask(service(i), "uid:1000", wait) })
	}
	callers.Wait()
	return answers
}

// all names the same service for every caller of a crowd.
func all(service string) func(int) string { return func(int) string { return service } }

// gets requires the credential of the service.
func (r *faultRig) gets(a faultAnswer, service string) {
	r.t.Helper()
	require.NoError(r.t, a.err, r.log)
	require.Equal(r.t, canaryToken+service, a.token)
}

// fails requires a failure of that kind, within that time.
func (r *faultRig) fails(a faultAnswer, kind broker.Kind, within time.Duration) *broker.Error {
	r.t.Helper()
	var e *broker.Error
	require.ErrorAs(r.t, a.err, &e, "a credential came")
	require.Equal(r.t, kind, e.Kind, e.Message)
	require.Less(r.t, a.took, within)
	require.NotContains(r.t, e.Message, canaryToken)
	return e
}

// spent requires how many departures the budget has booked, and how many of them
// the vault has seen.
func (r *faultRig) spent(booked, seen int) {
	r.t.Helper()
	require.Equal(r.t, booked, r.budget.Status().Used, "departures booked")
	require.Equal(r.t, seen, r.vault.Exchanges().Total, "departures seen by the vault")
}

// lines counts the lines of the log of that level.
func (r *faultRig) lines(level string) int { return strings.Count(r.log.String(), "level="+level) }

// back waits until the service is answered.
func (r *faultRig) back(service string) {
	r.t.Helper()
	require.Eventually(r.t, func() bool { return r.ask(service, "uid:1000", faultSlack).err == nil },
		5*time.Second, 5*time.Millisecond, r.log)
}

// refuses lets nobody listen at the vault's address while body runs.
func (n *network) refuses(body func()) {
	n.t.Helper()
	n.proxy.Stop()
	_, err := net.Dial("tcp", n.proxy.Listen)
	require.Error(n.t, err)
	body()
	require.NoError(n.t, n.proxy.Start())
}

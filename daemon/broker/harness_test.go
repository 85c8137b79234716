package broker_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/grantexd/grantexd/daemon/broker"
	"github.com/grantexd/grantexd/daemon/grant"
	"github.com/grantexd/grantexd/upstream"
	"github.com/grantexd/grantexd/upstream/clock"
	"github.com/grantexd/grantexd/upstream/secret"
)

// latency is how long the fake vault takes to answer.
const latency = 100 * time.Millisecond

// call is one exchange that the fake vault saw.
type call struct {
	at      time.Duration // since the start of the test
	service string
	token   string
	class   upstream.Class
}

// fakeVault is an Upstream with an answer for each service.
type fakeVault struct {
	started time.Time

	mu sync.Mutex // guards the rest
	// answer decides about an exchange; nil answers 404 to all.
	answer func(token, service string) (*upstream.Credential, error)
	// delay is the time an answer takes.
	delay time.Duration
	calls []call
}

func (v *fakeVault) Exchange(ctx context.Context, token secret.Text, service string) (*upstream.Credential, error) {
	dep := upstream.DepartureFrom(ctx)
	dep.Departed()
	v.mu.Lock()
	v.calls = append(v.calls, call{at: time.Since(v.started), service: service, token: token.Reveal(), class: dep.Class()})
	answer, delay := v.answer, v.delay
	v.mu.Unlock()
	select {
	case <-time.After(delay):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if answer == nil {
		return nil, errNotFound
	}
	return answer(token.Reveal(), service)
}

func (v *fakeVault) set(answer func(token, service string) (*upstream.Credential, error)) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.answer = answer
}

// fail makes every exchange fail with err.
func (v *fakeVault) fail(err error) {
	v.set(func(string, string) (*upstream.Credential, error) { return nil, err })
}

// store makes every exchange answer with a token of that life from now.
func (v *fakeVault) store(token string, life time.Duration) {
	expires := time.Time{}
	if life != 0 {
		expires = time.Now().Add(life).Truncate(time.Millisecond)
	}
	v.set(func(_, service string) (*upstream.Credential, error) { return credential(service, token, expires), nil })
}

func (v *fakeVault) seen() []call {
	v.mu.Lock()
	defer v.mu.Unlock()
	return append([]call(nil), v.calls...)
}

func (v *fakeVault) count() int { return len(v.seen()) }

func credential(service, token string, expires time.Time) *upstream.Credential {
	return &upstream.Credential{
		AccessToken: secret.New(token), Service: service, CredentialType: "oauth2",
		TokenExpiresAt: expires, Metadata: []byte("{}"), Date: time.Now().Truncate(time.Second),
	}
}

func vaultError(status int, code, message string) *upstream.Error {
	return &upstream.Error{Status: status, Code: code, Message: message, RequestID: "3f0c", URL: "https://vault.test"}
}

var (
	errNotFound  = vaultError(404, "NOT_FOUND", "No credential found for this principal and service")
	errForbidden = vaultError(403, "FORBIDDEN", "Grant token is not scoped for github credential exchange")
	errRejected  = vaultError(401, "UNAUTHORIZED", "Invalid or expired grant token")
	errBadPath   = vaultError(401, "UNAUTHORIZED", "Invalid API key")
	errServer    = vaultError(500, "INTERNAL_ERROR", "An unexpected error occurred")
	errConnect   = errors.Join(upstream.ErrConnect, errors.New("connection refused"))
)

// bench is a broker on a fake vault, inside a bubble.
type bench struct {
	t      *testing.T
	vault  *fakeVault
	clock  *clock.Fake
	b      *broker.Broker
	start  time.Time
	reread func()
	// withheld counts the calls of Options.Withhold.
	withheld int
}

// run makes a bench with a usable grant and hands it to body, inside a bubble.
// When body returns, the broker must stop without leaving anything behind.
func run(t *testing.T, tunables broker.Tunables, body func(*bench)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		k := newBench(t, tunables)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- k.b.Run(ctx) }()
		defer func() {
			cancel()
			require.NoError(t, <-done)
		}()
		body(k)
	})
}

func newBench(t *testing.T, tunables broker.Tunables) *bench {
	t.Helper()
	vault := &fakeVault{started: time.Now(), delay: latency}
	vault.store("first", 8*time.Hour)
	return newBenchOn(t, tunables, vault, clock.NewFake())
}

// newBenchOn is a broker of its own, not running yet, on a vault and a clock that
// are there already.
func newBenchOn(t *testing.T, tunables broker.Tunables, vault *fakeVault, c *clock.Fake) *bench {
	t.Helper()
	k := &bench{t: t, vault: vault, clock: c, start: time.Now()}
	var err error
	k.b, err = broker.New(broker.Options{
		Upstream: k.vault, Clock: k.clock, Tunables: tunables,
		Reread: func(context.Context) error {
			if k.reread != nil {
				k.reread()
			}
			return nil
		},
		Fingerprint: func(s secret.Text) string { return "fp-" + s.Reveal() },
		Render:      func(c *upstream.Credential, _ string) any { return c.AccessToken.Reveal() },
		Withhold:    func() { k.withheld++ },
	})
	require.NoError(t, err)
	k.b.SetGrant(k.grant("jwt-1", "grnt-1", "*"))
	return k
}

// grant is a usable grant of a day.
func (k *bench) grant(token, grantID string, scopes ...string) grant.Snapshot {
	return grant.Snapshot{State: grant.Usable, Grant: &grant.Grant{
		Token: secret.New(token), Hash: sha256.Sum256([]byte(token)),
		Claims: grant.Claims{
			GrantID: grantID, Subject: "user_1", Developer: "dev_1", Scopes: scopes, ScopesKnown: true,
			IssuedAt: k.start, ExpiresAt: k.start.Add(48 * time.Hour),
		},
	}}
}

// at sleeps until d after the start of the test.
func (k *bench) at(d time.Duration) {
	k.t.Helper()
	left := d - time.Since(k.start)
	require.GreaterOrEqual(k.t, left, time.Duration(0), "the timeline goes backwards")
	time.Sleep(left)
	synctest.Wait()
}

// get reads as uid 1000 would, with the default wait.
func (k *bench) get(service string) (string, error) {
	return k.ask(broker.Request{Service: service, Caller: "uid:1000", Wait: 10 * time.Second})
}

func (k *bench) ask(r broker.Request) (string, error) {
	a, err := k.b.Get(k.t.Context(), r)
	if err != nil {
		return "", err
	}
	return a.Rendered.(string), nil
}

// want reads and requires the token.
func (k *bench) want(service, token string) {
	k.t.Helper()
	got, err := k.get(service)
	require.NoError(k.t, err)
	require.Equal(k.t, token, got)
}

// refuse reads and requires a failure of that kind.
func (k *bench) refuse(service string, kind broker.Kind) *broker.Error {
	k.t.Helper()
	got, err := k.get(service)
	var e *broker.Error
	require.ErrorAs(k.t, err, &e, "a credential came: %q", got)
	require.Equal(k.t, kind, e.Kind, e.Message)
	return e
}

// same answers with the same token and expiry, whenever it is asked.
func same(token string, expires time.Time) func(string, string) (*upstream.Credential, error) {
	return func(_, service string) (*upstream.Credential, error) { return credential(service, token, expires), nil }
}

package broker_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"log/slog"
	"slices"
	"strings"
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
	// last says that it might have taken the last slot.
	last bool
}

// fakeVault is an Upstream with an answer for each service.
type fakeVault struct {
	started time.Time

	mu sync.Mutex // guards the rest
	// answer decides about an exchange; nil answers 404 to all.
	answer func(token, service string) (*upstream.Credential, error)
	// delay is the time an answer takes.
	delay time.Duration
	// ahead is by how much its clock is ahead of the time that passes.
	ahead time.Duration
	// slot stands in for the budget: since when in the test a departure may
	// leave. Nil lets all leave at once.
	slot  func(class upstream.Class, service string) time.Duration
	calls []call
	// cancelled counts the exchanges that were given up after they departed.
	cancelled int
}

func (v *fakeVault) Exchange(ctx context.Context, token secret.Text, service string) (*upstream.Credential, error) {
	dep := upstream.DepartureFrom(ctx)
	if err := v.waitForSlot(ctx, dep, service); err != nil {
		return nil, err
	}
	last := dep.MayTakeLast()
	dep.Departed()
	v.mu.Lock()
	v.calls = append(v.calls, call{at: time.Since(v.started), service: service, token: token.Reveal(),
		class: dep.Class(), last: last})
	answer, delay := v.answer, v.delay
	v.mu.Unlock()
	select {
	case <-time.After(delay):
	case <-ctx.Done():
		v.change(func() { v.cancelled++ })
		return nil, ctx.Err()
	}
	if answer == nil {
		return nil, errNotFound
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	cred, err := answer(token.Reveal(), service)
	if cred != nil && cred.Date.IsZero() {
		cred.Date = time.Now().Add(v.ahead).Truncate(time.Second)
	}
	return cred, err
}

// waitForSlot does what the budget does: it speaks up about a wait when that is
// news, and only then.
func (v *fakeVault) waitForSlot(ctx context.Context, dep *upstream.Departure, service string) error {
	told := time.Duration(0)
	for {
		opens := v.slotFor(dep.Class(), service)
		wait := opens - time.Since(v.started)
		if wait <= 0 {
			return ctx.Err()
		}
		if opens != told {
			told = opens
			dep.Delayed(wait)
		}
		select {
		case <-time.After(wait):
		case <-dep.Changed():
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (v *fakeVault) slotFor(class upstream.Class, service string) time.Duration {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.slot == nil {
		return 0
	}
	return v.slot(class, service)
}

// opensAt lets departures of each class leave from that time of the test on.
func (v *fakeVault) opensAt(refresh, miss, check time.Duration) {
	v.slots(func(class upstream.Class, _ string) time.Duration {
		return map[upstream.Class]time.Duration{
			upstream.ClassRefresh: refresh, upstream.ClassMiss: miss, upstream.ClassCheck: check,
		}[class]
	})
}

func (v *fakeVault) slots(slot func(upstream.Class, string) time.Duration) {
	v.change(func() { v.slot = slot })
}

func (v *fakeVault) set(answer func(token, service string) (*upstream.Credential, error)) {
	v.change(func() { v.answer = answer })
}

// change changes what the answers depend on, which are made one at a time.
func (v *fakeVault) change(f func()) {
	v.mu.Lock()
	defer v.mu.Unlock()
	f()
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

// credential is what the vault answers with; the fake vault adds its Date.
func credential(service, token string, expires time.Time) *upstream.Credential {
	if !expires.IsZero() {
		expires = expires.UTC()
	}
	return &upstream.Credential{
		AccessToken: secret.New(token), Service: service, CredentialType: "oauth2",
		TokenExpiresAt: expires, Metadata: []byte("{}"),
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
	log    *logLines
	start  time.Time
	reread func()
	// withheld counts the calls of Options.Withhold.
	withheld int
	// stop ends Run and waits until it has returned.
	stop func()
}

// run makes a bench with a usable grant and hands it to body, inside a bubble.
// When body returns, the broker must stop without leaving anything behind.
func run(t *testing.T, tunables broker.Tunables, body func(*bench), adjust ...func(*broker.Options)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		newBench(t, tunables, adjust...).run(body)
	})
}

func newBench(t *testing.T, tunables broker.Tunables, adjust ...func(*broker.Options)) *bench {
	t.Helper()
	vault := &fakeVault{started: time.Now(), delay: latency}
	vault.store("first", 8*time.Hour)
	return newBenchOn(t, tunables, vault, clock.NewFake(), adjust...)
}

// newBenchOn is a broker of its own, not running yet, on a vault and a clock that
// are there already.
func newBenchOn(t *testing.T, tunables broker.Tunables, vault *fakeVault, c *clock.Fake, adjust ...func(*broker.Options)) *bench {
	t.Helper()
	k := &bench{t: t, vault: vault, clock: c, log: &logLines{}, start: time.Now()}
	o := broker.Options{
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
		Logger:      slog.New(slog.NewJSONHandler(k.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	for _, a := range adjust {
		a(&o)
	}
	var err error
	k.b, err = broker.New(o)
	require.NoError(t, err)
	k.b.SetGrant(k.grant("jwt-1", "grnt-1", "*"))
	return k
}

// prefetch is an adjustment for run.
func prefetch(services ...string) func(*broker.Options) {
	return func(o *broker.Options) { o.Prefetch = services }
}

// logLines keeps the lines of a log.
type logLines struct {
	mu    sync.Mutex // guards lines
	lines []string
}

// Write implements [io.Writer].
func (l *logLines) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, string(line))
	return len(line), nil
}

// with returns the lines that contain all of the words.
func (l *logLines) with(words ...string) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(l.lines), func(line string) bool {
		return slices.ContainsFunc(words, func(word string) bool { return !strings.Contains(line, word) })
	})
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

// answer reads and requires that a credential comes.
func (k *bench) answer(service string) broker.Answer {
	k.t.Helper()
	a, err := k.b.Get(k.t.Context(), broker.Request{Service: service, Caller: "uid:1000", Wait: 10 * time.Second})
	require.NoError(k.t, err)
	return a
}

// fails asks and requires a failure of that kind.
func (k *bench) fails(r broker.Request, kind broker.Kind) *broker.Error {
	k.t.Helper()
	got, err := k.ask(r)
	var e *broker.Error
	require.ErrorAs(k.t, err, &e, "a credential came: %q", got)
	require.Equal(k.t, kind, e.Kind, e.Message)
	return e
}

// reader is a read by a caller that would wait so long.
func reader(service, caller string, wait time.Duration) broker.Request {
	return broker.Request{Service: service, Caller: caller, Wait: wait}
}

// outcome is how a read in the background ended.
type outcome struct {
	token string
	err   error
	took  time.Duration
}

// later asks in the background.
func (k *bench) later(r broker.Request) <-chan outcome {
	done := make(chan outcome, 1)
	began := time.Now()
	go func() {
		token, err := k.ask(r)
		done <- outcome{token: token, err: err, took: time.Since(began)}
	}()
	return done
}

// gets requires that the read brought the token.
func (k *bench) gets(done <-chan outcome, token string) time.Duration {
	k.t.Helper()
	o := <-done
	require.NoError(k.t, o.err)
	require.Equal(k.t, token, o.token)
	return o.took
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
	return k.fails(reader(service, "uid:1000", 10*time.Second), kind)
}

// same answers with the same token and expiry, whenever it is asked.
func same(token string, expires time.Time) func(string, string) (*upstream.Credential, error) {
	return func(_, service string) (*upstream.Credential, error) { return credential(service, token, expires), nil }
}

// run runs the broker while body does.
func (k *bench) run(body func(*bench)) {
	k.t.Helper()
	ctx, cancel := context.WithCancel(k.t.Context())
	done := make(chan error, 1)
	go func() { done <- k.b.Run(ctx) }()
	k.stop = sync.OnceFunc(func() {
		cancel()
		require.NoError(k.t, <-done)
	})
	defer k.stop()
	body(k)
}

package broker

import (
	"context"
	"encoding/hex"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	gocache "github.com/patrickmn/go-cache"

	"github.com/grantexd/grantexd/daemon/grant"
	"github.com/grantexd/grantexd/upstream"
	"github.com/grantexd/grantexd/upstream/clock"
	"github.com/grantexd/grantexd/upstream/secret"
)

// Upstream exchanges the grant token for the credential of a service. The
// [upstream.Departure] in the context says on whose behalf. *upstream.Client
// implements it.
type Upstream interface {
	Exchange(ctx context.Context, grant secret.Text, service string) (*upstream.Credential, error)
}

// Options configure a [Broker].
type Options struct {
	// Upstream is asked for credentials. Required.
	Upstream Upstream
	// Reread reads the grant file now and delivers a change through
	// [Broker.SetGrant] before it returns. Required.
	Reread func(ctx context.Context) error
	// Fingerprint names a token without giving it away. Required.
	Fingerprint func(secret.Text) string
	// Render makes what callers get of a credential, once, when it is cached.
	// Nil renders nothing.
	Render func(cred *upstream.Credential, fingerprint string) any
	// Withhold is called, with the broker's lock held, before a purge, a
	// suspicion against the grant or the eviction of what the vault refuses
	// counts as done: copies of the cache outside the process must be gone when
	// it returns. Nil does nothing.
	Withhold func()
	// Prefetch names services that are asked for as soon as there is a grant,
	// once for each consent.
	Prefetch []string
	// Tunables are the numbers; zero values are defaults.
	Tunables Tunables
	// Clock is the machine's clock by default.
	Clock clock.Clock
	// Logger discards by default.
	Logger *slog.Logger
}

// Broker answers reads of credentials. Make one with [New] and start it with
// [Broker.Run]; it is safe for concurrent use.
type Broker struct {
	up          Upstream
	reread      func(context.Context) error
	fingerprint func(secret.Text) string
	render      func(*upstream.Credential, string) any
	withhold    func()
	clock       clock.Clock
	log         *slog.Logger

	// gate is what the hot path asks first. It is replaced under mu.
	gate atomic.Pointer[gate]
	// creds maps a service to its *held; go-cache forgets what expired.
	creds *gocache.Cache
	// vaultClock is the vault's Unix time less the boot time, in nanoseconds;
	// 0 if it is not known.
	vaultClock atomic.Int64
	// confirmedAt is the boot time at which the vault last accepted the token in
	// use, 0 if it never did.
	confirmedAt atomic.Int64
	// confirmInterval mirrors the tunable for the hot path.
	confirmInterval atomic.Int64
	// nudged says that Run was told of a read that needs it, and has not looked
	// yet.
	nudged atomic.Bool
	// wake wakes Run.
	wake chan struct{}
	// beat is answered by Run.
	beat chan chan struct{}
	// exchanges counts the answers of the vault.
	exchanges atomic.Uint64

	mu       sync.Mutex // guards the rest
	tunables Tunables
	prefetch []string
	// prefetched are those of prefetch that the vault answered for since the
	// last purge, be it that it has none.
	prefetched map[string]bool
	// vaultLatency is how long the answer took that vaultClock was read from.
	vaultLatency time.Duration
	// epoch counts purges, generation counts tokens.
	epoch, generation uint64
	services          map[string]*service
	callers           map[string]*caller
	// launch are flights that Run has to start.
	launch []*flight
	// changed is closed and replaced when something changed that a pausing
	// caller waits for.
	changed chan struct{}
	// cached is closed and replaced when the content of the cache changed.
	cached   chan struct{}
	trust    trust
	outage   outage
	stopping bool
}

// service is what is known of one service.
type service struct {
	name string
	// held is what the cache holds, nil if nothing.
	held *held
	// refusal is the remembered 404, 403 or expiry; refusedUntil its end.
	refusal      *Error
	refusedUntil time.Duration
	// cool is the service's own cool-down.
	cool cooldown
	// flight is the exchange under way, nil if there is none.
	flight *flight
	// triedAt is when the last exchange that departed ended, whatever came of
	// it; 0 for never.
	triedAt time.Duration
	// known says that it succeeded under the present consent.
	known bool
}

// New returns a broker without a grant.
func New(o Options) (*Broker, error) {
	if o.Upstream == nil || o.Reread == nil || o.Fingerprint == nil {
		return nil, errors.New("broker: Upstream, Reread and Fingerprint are required")
	}
	b := &Broker{
		up: o.Upstream, reread: o.Reread, fingerprint: o.Fingerprint, render: o.Render, withhold: o.Withhold,
		clock: o.Clock, log: o.Logger,
		// No janitor: its goroutine would never end. Run sweeps.
		creds:    gocache.New(gocache.NoExpiration, 0),
		wake:     make(chan struct{}, 1),
		beat:     make(chan chan struct{}),
		prefetch: o.Prefetch,
		services: map[string]*service{}, callers: map[string]*caller{}, prefetched: map[string]bool{},
		changed: make(chan struct{}), cached: make(chan struct{}),
	}
	if b.render == nil {
		b.render = func(*upstream.Credential, string) any { return nil }
	}
	if b.withhold == nil {
		b.withhold = func() {}
	}
	if b.clock == nil {
		b.clock = clock.System{}
	}
	if b.log == nil {
		b.log = slog.New(slog.DiscardHandler)
	}
	b.setTunables(o.Tunables)
	b.gate.Store(&gate{state: grant.Absent, err: errAbsent})
	return b, nil
}

// Reconfigure replaces the numbers and the services to prefetch while the broker
// runs. What is cached keeps the deadlines it was given.
func (b *Broker) Reconfigure(t Tunables, prefetch []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.setTunables(t)
	b.prefetch = prefetch
	b.broadcast()
}

func (b *Broker) setTunables(t Tunables) {
	b.tunables = t.withDefaults()
	b.confirmInterval.Store(int64(b.tunables.ConfirmInterval))
}

// Heartbeat returns nil once Run's loop has answered: the broker is alive. While
// Run does not run it fails when ctx ends.
func (b *Broker) Heartbeat(ctx context.Context) error {
	answer := make(chan struct{})
	select {
	case b.beat <- answer:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case <-answer:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// CacheChanged returns a channel that is closed at the next change of what is
// held.
func (b *Broker) CacheChanged() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.cached
}

// service returns what is known of name, adding it. b.mu is held.
func (b *Broker) service(name string) *service {
	s := b.services[name]
	if s == nil {
		s = &service{name: name}
		b.services[name] = s
	}
	return s
}

// broadcast wakes the pausing callers and Run. b.mu is held.
func (b *Broker) broadcast() {
	close(b.changed)
	b.changed = make(chan struct{})
	b.wakeRun()
}

func (b *Broker) wakeRun() {
	select {
	case b.wake <- struct{}{}:
	default: // it was told already
	}
}

// newExchangeID returns an id by which the audit names an exchange.
func (b *Broker) newExchangeID() string {
	var id [8]byte
	v := rand.Uint64()
	for i := range id {
		id[i] = byte(v >> (8 * i))
	}
	return hex.EncodeToString(id[:])
}

package broker

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/grantexd/grantexd/daemon/grant"
	"github.com/grantexd/grantexd/upstream"
)

// Held describes a held credential without its token. Durations are from now.
type Held struct {
	Service, CredentialType, Fingerprint string
	// ExpiresAt is zero if the vault knows no expiry.
	ExpiresAt time.Time
	Age, TTL  time.Duration
	// RotationStuck says that a refresh that was due brought the same token.
	RotationStuck bool
	// NextRefresh is in how long it is refreshed if it is read; negative if it
	// is not planned.
	NextRefresh time.Duration
	// LastRead is how long ago it was read; negative if it never was.
	LastRead time.Duration
}

// Trust is what the vault thinks of the grant token.
type Trust string

// The states of trust.
const (
	TrustUnknown   Trust = "unknown"   // the vault was not asked yet
	TrustConfirmed Trust = "confirmed" // accepted within the interval
	TrustOverdue   Trust = "overdue"   // accepted, but longer ago than that
	TrustSuspect   Trust = "suspect"   // one 401; everything is withheld
	TrustRejected  Trust = "rejected"  // refused for good; everything is purged
)

// Status describes the broker at one moment.
type Status struct {
	// Err is what every caller gets now, nil if credentials are served.
	Err *Error
	// GrantState and Claims are those of the grant file; Claims is nil if there
	// never was a token.
	GrantState grant.State
	Claims     *grant.Claims
	Trust      Trust
	// Confirmed is how long ago the vault accepted the token; negative if it
	// never did.
	Confirmed time.Duration
	// NextProbe is in how long a token that was refused is tried again;
	// negative if it is not.
	NextProbe time.Duration
	// Held, Stale and RotationStuck count credentials; MaxServices bounds them.
	Held, Stale, RotationStuck, MaxServices int
	// Flights counts the exchanges under way, Waiters who waits for them.
	Flights, Waiters int
	// LastError is what fails at the moment: all exchanges in an outage, or else
	// those of one service; "" if none. Failing is for how long.
	LastError string
	Failing   time.Duration
	// Limited is for how long the vault asked to stay away.
	Limited time.Duration
	// LastSuccess is how long ago it answered as it should; negative if never.
	LastSuccess time.Duration
	// ClockOffset is by how much the vault's clock is ahead of this host's,
	// valid if ClockKnown.
	ClockOffset time.Duration
	ClockKnown  bool
	// Exchanges counts the vault's answers since the start.
	Exchanges uint64
}

// Status returns the broker's state.
func (b *Broker) Status() Status {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.clock.Boot()
	g := b.gate.Load()
	st := Status{
		Err: g.err, GrantState: g.state, Trust: b.trustNow(now),
		Confirmed: since(now, time.Duration(b.confirmedAt.Load())), NextProbe: -1,
		MaxServices: b.tunables.MaxServices, Exchanges: b.exchanges.Load(),
		Limited:     max(b.outage.limitedUntil-now, 0),
		LastSuccess: since(now, b.outage.lastSuccess),
	}
	if g.grant != nil {
		st.Claims = &g.grant.Claims
	}
	if b.trust.suspect || b.trust.isRejected {
		st.NextProbe = b.probeIn(now)
	}
	if err, since := b.failing(); err != nil {
		st.LastError, st.Failing = err.Message, now-since
	}
	if c := b.clocks(); c.vault != 0 {
		// The answer's Date lies somewhere between departure and arrival.
		st.ClockKnown, st.ClockOffset = true, time.Duration(c.vault-c.wall)-b.vaultLatency/2
	}
	for _, s := range b.services {
		b.count(&st, s, now)
	}
	return st
}

func (b *Broker) count(st *Status, s *service, now time.Duration) {
	if s.held != nil {
		st.Held++
		if s.held.ttl(b.gate.Load(), now) <= 0 {
			st.Stale++
		}
		if s.held.stuck {
			st.RotationStuck++
		}
	}
	if s.flight != nil {
		st.Flights++
		st.Waiters += len(s.flight.waiters)
	}
}

func (b *Broker) trustNow(now time.Duration) Trust {
	confirmed := time.Duration(b.confirmedAt.Load())
	switch {
	case b.trust.isRejected:
		return TrustRejected
	case b.trust.suspect:
		return TrustSuspect
	case confirmed == 0:
		return TrustUnknown
	case now-confirmed > b.tunables.ConfirmInterval:
		return TrustOverdue
	}
	return TrustConfirmed
}

// since returns how long ago t was, -1 if t is 0: it never was.
func since(now, t time.Duration) time.Duration {
	if t == 0 {
		return -1
	}
	return now - t
}

// Held lists what is held, sorted by service.
func (b *Broker) Held() []Held {
	b.mu.Lock()
	defer b.mu.Unlock()
	c, g := b.clocks(), b.gate.Load()
	list := []Held{}
	for _, s := range b.services {
		if s.held != nil && s.held.servable(c) {
			list = append(list, s.describe(g, c.boot))
		}
	}
	slices.SortFunc(list, func(x, y Held) int { return cmp.Compare(x.Service, y.Service) })
	return list
}

func (s *service) describe(g *gate, now time.Duration) Held {
	h := s.held
	d := Held{
		Service: s.name, CredentialType: h.cred.CredentialType, Fingerprint: h.fingerprint,
		ExpiresAt: h.cred.TokenExpiresAt, Age: now - h.storedAt, TTL: h.ttl(g, now),
		RotationStuck: h.stuck, NextRefresh: -1, LastRead: since(now, time.Duration(h.lastRead.Load())),
	}
	if h.refreshAt != 0 {
		d.NextRefresh = max(h.refreshAt-now, 0)
	}
	return d
}

// Explanation says what a read of a service would meet now.
type Explanation struct {
	// State is one of held, stale, refused, expired, failing, withheld,
	// uncovered or unknown.
	State string
	// Err is what a read would get, nil if it would be answered or would start
	// an exchange.
	Err *Error
	// Held is what is held, nil if nothing.
	Held *Held
	// Underway says that an exchange is under way, WaitsFor for how long it
	// waits for a slot of the budget.
	Underway bool
	WaitsFor time.Duration
	// LastError is the last failure of this service, "" after a success.
	LastError string
	// Retry is in how long the vault is asked again.
	Retry time.Duration
	// Summary says all of it in sentences.
	Summary []string
}

// Explain says what a read of name would meet now. It starts nothing.
func (b *Broker) Explain(name string) Explanation {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := b.clocks()
	s := b.services[name]
	if s == nil {
		s = &service{name: name}
	}
	e := Explanation{State: "unknown"}
	if s.held != nil && s.held.servable(c) {
		d := s.describe(b.gate.Load(), c.boot)
		e.Held = &d
	}
	if s.cool.err != nil {
		e.LastError = s.cool.err.Message
	}
	if s.flight != nil {
		e.Underway, e.WaitsFor = true, max(s.flight.waitUntil-c.boot, 0)
	}
	b.explainState(&e, s, c)
	e.Summary = b.sentences(&e, s, c)
	return e
}

// explainState finds the one thing that decides. b.mu is held.
func (b *Broker) explainState(e *Explanation, s *service, c clocks) {
	g := b.gate.Load()
	until, cooling := b.coolingUntil(s, c.boot)
	if cooling != nil {
		e.Retry, e.LastError = until-c.boot, cooling.Message
	}
	switch {
	case g.err != nil:
		e.State, e.Err, e.Retry = "withheld", g.err, b.probeIn(c.boot)
	case !g.alive(c):
		e.State, e.Err, e.Retry = "withheld", errExpired, 0
	case preflight(g.grant, s.name) != nil:
		e.State, e.Err, e.Retry = "uncovered", preflight(g.grant, s.name), 0
	case e.Held != nil && e.Held.TTL <= 0:
		e.State = "stale"
	case e.Held != nil:
		e.State = "held"
	case s.refusal != nil && c.boot < s.refusedUntil:
		e.State, e.Retry = "refused", s.refusedUntil-c.boot
		if s.refusal.Kind == KindExpired {
			e.State = "expired"
		}
		e.Err = s.refusal.in(e.Retry)
	case cooling != nil:
		e.State, e.Err = "failing", cooling.in(e.Retry)
	}
}

// probeIn is in how long a token that was refused is tried again, 0 if it is not.
// b.mu is held.
func (b *Broker) probeIn(now time.Duration) time.Duration {
	if !b.trust.suspect && !b.trust.isRejected {
		return 0
	}
	return max(b.trust.nextProbe-now, 0)
}

// sentences says e in words. b.mu is held.
func (b *Broker) sentences(e *Explanation, s *service, c clocks) []string {
	now, out := c.boot, []string(nil)
	say := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	if e.Err != nil {
		say("A read is refused: %s.", e.Err.Message)
	}
	if h := e.Held; h != nil {
		say("A credential is held, confirmed by the vault %s ago.", h.Age.Round(time.Second))
		if e.State == "withheld" {
			b.sayKept(say, c)
		} else {
			b.sayLife(say, h)
		}
	} else if e.Err == nil && !e.Underway && s.known {
		say("Nothing is held: a read makes an exchange.")
	} else if e.Err == nil && !e.Underway {
		// Whether this caller did is not known here.
		say("Nothing is held: a read makes an exchange, unless its caller asked for too many unknown services within the last minute.")
	}
	if e.Underway && e.WaitsFor > 0 {
		say("An exchange waits for a slot of the budget, which comes in %s.", humanize(e.WaitsFor))
	} else if e.Underway {
		say("An exchange is under way: a read waits for its outcome unless a credential is held.")
	}
	if e.LastError != "" && e.State != "failing" {
		say("The last exchange failed: %s.", e.LastError)
	}
	if e.Retry > 0 {
		say("The vault is asked again in %s at the earliest.", humanize(e.Retry))
	}
	if t := b.trustNow(now); t == TrustOverdue {
		say("The vault has not confirmed the grant for %s: a revocation since then is not known here.",
			(now - time.Duration(b.confirmedAt.Load())).Round(time.Second))
	}
	if !s.known && e.State == "unknown" {
		say("The vault never gave one for this name under this grant.")
	}
	return out
}

// sayKept says what becomes of a credential that is withheld, which no life of its
// own decides. b.mu is held.
func (b *Broker) sayKept(say func(string, ...any), c clocks) {
	switch g := b.gate.Load(); {
	case b.trust.isWithheld && g.err != nil && !b.withdrawnTooLong(c.boot):
		say("It is kept and not served, and served again if the same grant returns within %s.",
			humanize(b.trust.withheldAt+b.tunables.WithdrawnKeep-c.boot))
	case b.trust.suspect && g.err != nil:
		say("It is kept and not served, and served again if the vault accepts the grant token when it is asked again.")
	default:
		say("It is not served.")
	}
}

func (b *Broker) sayLife(say func(string, ...any), h *Held) {
	switch {
	case h.ExpiresAt.IsZero() && h.TTL <= 0:
		say("It has no expiry and is stale: it is served while the vault is asked, at most until it is %s old.",
			b.tunables.StaleWithoutExpiry)
	case h.ExpiresAt.IsZero():
		say("It has no expiry and counts as fresh for %s.", h.TTL.Round(time.Second))
	default:
		say("It is served for %s, until shortly before it expires at %s.", h.TTL.Round(time.Second),
			h.ExpiresAt.Format(time.RFC3339))
	}
	switch {
	case h.RotationStuck:
		say("The vault still holds the same token although it should have been renewed: store a new one. It is looked for again in %s.",
			h.NextRefresh.Round(time.Second))
	case h.NextRefresh == 0:
		say("A refresh is due; the next read starts it.")
	case h.NextRefresh > 0:
		say("It is refreshed in %s if it is read until then.", h.NextRefresh.Round(time.Second))
	default:
		say("It lives too short to be refreshed ahead of time.")
	}
}

// Ready returns nil if reads can be answered: there is a grant that is not
// refused, and what is to be prefetched was asked for.
func (b *Broker) Ready() *Error {
	b.mu.Lock()
	defer b.mu.Unlock()
	g := b.gate.Load()
	if g.err != nil {
		return g.err
	}
	if !g.alive(b.clocks()) {
		return errExpired
	}
	for _, name := range b.prefetch {
		s := b.services[name]
		if preflight(g.grant, name) == nil && !b.prefetched[name] && (s == nil || s.held == nil) {
			return &Error{Kind: KindUpstream, RetryAfter: time.Second,
				Message: "the credential for " + name + " is still being fetched"}
		}
	}
	return nil
}

var _ Upstream = (*upstream.Client)(nil)

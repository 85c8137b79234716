package broker

import (
	"fmt"
	"strings"
	"time"

	"github.com/grantexd/grantexd/daemon/grant"
	"github.com/grantexd/grantexd/upstream"
)

// gate says whether anything may be served, and from which grant. It is
// immutable; a change replaces it, so that it shuts for every reader at once.
type gate struct {
	// err is what callers get instead of a credential, nil if the gate is open.
	err *Error
	// epoch is that of the entries that may be served.
	epoch uint64
	// grant is the token in use, nil without one.
	grant *grant.Grant
	// bootDeadline and wallDeadline (Unix nanoseconds) are the token's own exp;
	// 0 if it has none.
	bootDeadline time.Duration
	wallDeadline int64
	// state is the grant file's.
	state grant.State
}

// alive reports whether no clock calls the grant expired.
func (g *gate) alive(c clocks) bool {
	return g.wallDeadline == 0 || c.boot < g.bootDeadline && c.wall < g.wallDeadline && c.vault < g.wallDeadline
}

var (
	errAbsent = &Error{Kind: KindGrantUnavailable,
		Message: "there is no grant token: put the agent's grant token into the grant file"}
	errWithdrawn = &Error{Kind: KindGrantUnavailable,
		Message: "the grant file was removed: nothing is handed out until a grant token is put in its place"}
	errExpired = &Error{Kind: KindUnauthorized,
		Message: "the grant token has expired: put a new one into the grant file"}
	errSuspect = &Error{Kind: KindUnauthorized,
		Message: "the vault answered 401 for the grant token: everything is withheld until a second answer confirms or clears it"}
	errRejected = &Error{Kind: KindUnauthorized, UpstreamStatus: 401,
		Message: "the vault rejected the grant token (revoked, expired or not issued by it): put a new one into the grant file"}
)

// SetGrant tells the broker what the grant file offers now. When it returns, no
// read that starts later is answered from anything the new state does not allow:
// another consent's credentials are purged, and flights for the former token are
// abandoned.
func (b *Broker) SetGrant(s grant.Snapshot) {
	b.mu.Lock()
	defer b.mu.Unlock()
	old := b.gate.Load()
	switch {
	case s.State != grant.Usable || s.Grant == nil:
		b.closeFor(s)
	case old.state == grant.Usable && old.grant.Hash == s.Grant.Hash:
		return // the same token
	default:
		b.useGrant(s, old)
	}
	b.broadcast()
}

// closeFor shuts the gate because the file offers no token. b.mu is held.
func (b *Broker) closeFor(s grant.Snapshot) {
	old := b.gate.Load()
	g := &gate{epoch: b.epoch, grant: old.grant, state: s.State}
	switch s.State {
	case grant.Withdrawn:
		g.err = errWithdrawn
	case grant.Expired:
		g.err = errExpired
	default:
		g.err = errAbsent
	}
	b.gate.Store(g)
	b.abandonFlights()
	if s.State == grant.Withdrawn && old.grant != nil && !b.trust.suspect {
		if !b.trust.isWithheld {
			b.trust.isWithheld, b.trust.withheldAt = true, b.clock.Boot()
		}
		b.withhold()
		return
	}
	// What was under suspicion is not kept for the token's return.
	b.trust.suspect = false
	b.purge()
}

// useGrant opens the gate for a token that is not the one in use.
// b.mu is held.
func (b *Broker) useGrant(s grant.Snapshot, old *gate) {
	now := b.clock.Boot()
	// Shut first: a hit must not see the former consent's entries while the
	// cache is being sorted out.
	b.gate.Store(&gate{err: errWithdrawn, epoch: b.epoch, grant: old.grant, state: old.state})
	b.abandonFlights()
	kept := sameConsent(old.grant, s.Grant) && !b.withdrawnTooLong(now)
	if !kept {
		if old.grant != nil && !sameConsent(old.grant, s.Grant) {
			b.log.Info("the grant is of another consent; everything held was purged", "credentials", b.countHeld())
		}
		b.purge()
	}
	b.dropUncovered(s.Grant.Claims)
	if old.grant == nil || old.grant.Hash != s.Grant.Hash {
		b.confirmedAt.Store(0)
		b.revalidateAll(now)
	}
	g := &gate{epoch: b.epoch, grant: s.Grant, state: s.State}
	g.err = b.trustIn(s.Grant, kept, now)
	if exp := s.Grant.Claims.ExpiresAt; !exp.IsZero() {
		g.bootDeadline, g.wallDeadline = now+min(exp.Sub(b.clock.Now()), farAway), unixNano(exp)
	}
	b.gate.Store(g)
	// A copy that was withheld is to be made again.
	b.cacheChanged()
}

// sameConsent reports whether what one token opened may be served under the
// other.
func sameConsent(old, next *grant.Grant) bool {
	return old != nil && (old.Hash == next.Hash || old.Claims.Consent().Same(next.Claims.Consent()))
}

func (b *Broker) withdrawnTooLong(now time.Duration) bool {
	return b.trust.isWithheld && now-b.trust.withheldAt > b.tunables.WithdrawnKeep
}

// purge forgets everything that came of the former grant. The gate is shut.
// b.mu is held.
func (b *Broker) purge() {
	b.epoch++
	b.creds.Flush()
	for name, s := range b.services {
		s.held, s.refusal, s.known, s.triedAt = nil, nil, false, 0
		if s.flight == nil && s.cool.fails == 0 {
			delete(b.services, name)
		}
	}
	clear(b.prefetched)
	b.confirmedAt.Store(0)
	b.withhold()
	b.cacheChanged()
}

// expire purges what a grant opened that is past its exp. The gate stays as it
// is: a clock that called the grant expired by mistake may be set right.
// b.mu is held.
func (b *Broker) expire() {
	if !b.holdsAny() && !b.hasFlights() {
		return
	}
	b.abandonFlights()
	b.purge()
	g := *b.gate.Load()
	g.epoch = b.epoch
	b.gate.Store(&g)
	b.log.Info("the grant token has expired; everything held was purged")
}

func (b *Broker) holdsAny() bool { return b.countHeld() > 0 }

func (b *Broker) countHeld() int {
	n := 0
	for _, s := range b.services {
		if s.held != nil {
			n++
		}
	}
	return n
}

func (b *Broker) hasFlights() bool {
	for _, s := range b.services {
		if s.flight != nil {
			return true
		}
	}
	return false
}

// cacheChanged tells whoever keeps a copy. b.mu is held.
func (b *Broker) cacheChanged() {
	close(b.cached)
	b.cached = make(chan struct{})
}

// dropUncovered forgets what the new claims can't cover, and the 403s that the
// former ones met. b.mu is held.
func (b *Broker) dropUncovered(c grant.Claims) {
	for _, s := range b.services {
		if s.refusal != nil && s.refusal.Kind == KindForbidden {
			s.refusal = nil
		}
		if c.ScopesKnown && !upstream.MayCover(c.Scopes, s.name) {
			b.evict(s)
		}
	}
}

// evict takes the credential of s out of the cache. b.mu is held.
func (b *Broker) evict(s *service) {
	if s.held == nil {
		return
	}
	s.held = nil
	b.creds.Delete(s.name)
	b.cacheChanged()
}

// revalidateAll plans an exchange of everything held: a new token of the same
// consent has to prove itself. When the vault should have a new credential stays
// as it was. b.mu is held.
func (b *Broker) revalidateAll(now time.Duration) {
	for _, s := range b.services {
		if s.held == nil {
			continue
		}
		h := s.held.copy()
		h.refreshAt = max(now, h.storedAt+b.tunables.ExchangeSpacing)
		b.put(s, h)
	}
}

// preflight refuses a service that the grant's scopes surely can't cover, which
// costs no departure.
func preflight(g *grant.Grant, service string) *Error {
	if !g.Claims.ScopesKnown || upstream.MayCover(g.Claims.Scopes, service) {
		return nil
	}
	return &Error{Kind: KindForbidden, Message: fmt.Sprintf(
		"the grant's scopes don't cover %s: one of %s would; ask for a grant with it",
		service, strings.Join(upstream.ScopesFor(service), ", "))}
}

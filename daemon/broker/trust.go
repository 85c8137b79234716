package broker

import (
	"errors"
	"time"

	"github.com/grantexd/grantexd/daemon/grant"
	"github.com/grantexd/grantexd/upstream"
)

// trust is what the vault's answers say of the token in use.
type trust struct {
	// suspect says that the vault answered 401 once: everything is withheld
	// until a second answer confirms or clears it.
	suspect bool
	// suspectService is the service whose exchange brought the 401.
	suspectService string
	// rejected is the hash of the token that the vault refused for good, valid
	// if isRejected.
	rejected   [32]byte
	isRejected bool
	// probes counts the probes since then; nextProbe is when the next one, or
	// the next try to clear a suspicion, may leave.
	probes    int
	nextProbe time.Duration
	// withheldAt is when the file was withdrawn, valid if isWithheld.
	withheldAt time.Duration
	isWithheld bool
}

// trustIn starts the trust in a token that comes into use, and returns what its
// callers get, nil for credentials. kept says that the cache was kept for it.
// b.mu is held.
func (b *Broker) trustIn(g *grant.Grant, kept bool, now time.Duration) *Error {
	switch t := b.trust; {
	case t.isRejected && t.rejected == g.Hash:
		b.trust.isWithheld = false
		return errRejected
	case t.suspect && kept:
		// The vault spoke of the consent's former token, but it may have meant
		// the consent. The new token is asked with at once.
		b.trust = trust{suspect: true, suspectService: t.suspectService, nextProbe: now}
		return errSuspect
	}
	b.trust = trust{}
	return nil
}

// suspect shuts the gate after a first 401 and returns true; false if somebody
// else's 401 did so already. b.mu is held.
func (b *Broker) suspect(service string) bool {
	if b.trust.suspect || b.trust.isRejected {
		return false
	}
	b.trust.suspect, b.trust.suspectService = true, service
	g := *b.gate.Load()
	g.err = errSuspect
	b.gate.Store(&g)
	b.withhold()
	b.recallWaiting(nil)
	b.log.Warn("the vault answered 401 for the grant token; everything is withheld until it is asked again",
		"service", service)
	b.broadcast()
	return true
}

// clear opens the gate again: the vault accepted the token. b.mu is held.
func (b *Broker) clear() {
	if !b.trust.suspect && !b.trust.isRejected {
		return
	}
	b.log.Info("the vault accepts the grant token again")
	b.trust = trust{}
	g := *b.gate.Load()
	g.err, g.epoch = nil, b.epoch
	b.gate.Store(&g)
	b.cacheChanged()
	b.broadcast()
}

// reject purges everything: the vault refused the token twice. b.mu is held.
func (b *Broker) reject() {
	now := b.clock.Boot()
	g := *b.gate.Load()
	first := !b.trust.isRejected
	t := trust{isRejected: true, rejected: g.grant.Hash, suspectService: b.trust.suspectService, probes: b.trust.probes + 1}
	if first {
		t.probes = 1
	}
	t.nextProbe = now + doubled(b.tunables.ProbeMin, b.tunables.ProbeMax, t.probes)
	b.trust = t
	g.err = errRejected
	b.gate.Store(&g)
	if !first {
		return
	}
	b.abandonFlights()
	b.purge()
	g.epoch = b.epoch
	b.gate.Store(&g)
	b.log.Error("the vault rejected the grant token; everything held was purged. Put a new token into the grant file",
		"grant", g.grant.Claims.GrantID, "principal", g.grant.Claims.Subject)
	b.broadcast()
}

// firstRejection reports whether err is a 401 for the token in use that nobody
// met before, and withholds everything if so.
func (b *Broker) firstRejection(f *flight, err error) bool {
	var e *upstream.Error
	if !errors.As(err, &e) || !e.GrantRejected() {
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if f.generation != b.generation || !b.suspect(f.service.name) {
		return false
	}
	f.verdict = true
	return true
}

// askAgain prepares f for its second exchange; false if the grant changed.
func (b *Broker) askAgain(f *flight) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if f.generation != b.generation {
		return false
	}
	f.stopTimer()
	f.departed, f.waitUntil = false, 0
	f.dep = upstream.NewDeparture(classCheck, "", b.hooks(f))
	// Callers of every service wait for the outcome.
	f.background = true
	return true
}

// confirming returns the flight that may clear the suspicion, nil if none is
// under way. b.mu is held.
func (b *Broker) confirming() *flight {
	s := b.services[b.trust.suspectService]
	if s != nil && s.flight != nil && s.flight.verdict {
		return s.flight
	}
	return nil
}

// undecided plans the next try of a flight that was to clear a suspicion or end
// a rejection, and did neither. b.mu is held.
func (b *Broker) undecided(f *flight, wait, now time.Duration) {
	if !f.verdict {
		return
	}
	if b.trust.isRejected {
		wait = max(wait, doubled(b.tunables.ProbeMin, b.tunables.ProbeMax, b.trust.probes))
	}
	b.trust.nextProbe = now + wait
}

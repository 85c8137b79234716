package broker

import (
	"context"
	"fmt"
	"time"
)

// Rejected is told by a caller that the service refused the credential with the
// given fingerprint. It returns the credential to use instead: the one held if
// that is another one already; else what one exchange brings, which everybody
// who reports the same shares. A report that turns out false, since the vault
// still holds the same token, costs its reporter a growing wait.
func (b *Broker) Rejected(ctx context.Context, r Request, fingerprint string) (Answer, error) {
	return b.wait(ctx, r, func(r Request, deadline time.Time) verdict {
		return b.admitReport(r, fingerprint, deadline)
	})
}

// admitReport decides about a report. b.mu is held.
func (b *Broker) admitReport(r Request, fingerprint string, deadline time.Time) verdict {
	c := b.clocks()
	if v, shut := b.admitGate(c, deadline); shut {
		return v
	}
	s := b.services[r.Service]
	if s == nil || s.held == nil || s.held.fingerprint != fingerprint || !s.held.servable(c) {
		// It is not held any more: an ordinary read finds what is to be used.
		return b.admitRead(r, deadline)
	}
	if p := b.penalty(r.Caller, r.Service); p != nil && c.boot < p.until {
		return verdict{err: errFalseReport(r.Service, p.until-c.boot)}
	}
	if s.flight == nil {
		if wait := s.triedAt + b.tunables.ExchangeSpacing - c.boot; s.triedAt != 0 && wait > 0 {
			return b.pauseFor(wait, deadline, errJustTried(s, wait))
		}
		if until := b.forcedUntil(r.Caller, c.boot); until != 0 {
			return b.pauseFor(until-c.boot, deadline, errManyForced(until-c.boot, b.tunables.UnknownNames))
		}
	}
	v := b.admitFlight(s, r.Caller, deadline, c.boot)
	if v.join != nil {
		f := v.join.flight
		if f.reporters == nil {
			f.reporters = map[string]struct{}{}
		}
		f.reporters[r.Caller] = struct{}{}
	}
	return v
}

func errFalseReport(service string, wait time.Duration) *Error {
	return (&Error{Kind: KindRateLimited, Message: fmt.Sprintf(
		"the vault still holds the credential for %s that this caller reported: store a new one in the vault; "+
			"reports of this caller count again in %s", service, humanize(wait))}).in(wait)
}

// errJustTried says why an exchange for s is not made again already.
func errJustTried(s *service, wait time.Duration) *Error {
	if s.cool.err != nil {
		return s.cool.err.in(wait)
	}
	return (&Error{Kind: KindRateLimited, Message: fmt.Sprintf(
		"the vault answered with this credential for %s moments ago: it is asked again in %s at the earliest",
		s.name, humanize(wait))}).in(wait)
}

func errManyForced(wait time.Duration, limit int) *Error {
	return (&Error{Kind: KindRateLimited, Message: fmt.Sprintf(
		"this caller reported, or read past the cache, %d credentials within a minute: its next report counts in %s",
		limit, humanize(wait))}).in(wait)
}

func (b *Broker) penalty(caller, service string) *penalty {
	if c := b.callers[caller]; c != nil {
		return c.reports[service]
	}
	return nil
}

// judgeReports charges the reporters of f if the exchange brought the same token
// again, and forgives them if it did not. b.mu is held.
func (b *Broker) judgeReports(f *flight, prev, h *held, now time.Duration) {
	isSame := prev != nil && prev.fingerprint == h.fingerprint
	if !isSame {
		for _, c := range b.callers {
			delete(c.reports, f.service.name)
		}
		return
	}
	for name := range f.reporters {
		c := b.caller(name)
		if c.reports == nil {
			c.reports = map[string]*penalty{}
		}
		p := c.reports[f.service.name]
		if p == nil {
			p = &penalty{}
			c.reports[f.service.name] = p
		}
		p.count++
		p.until = now + doubled(2*b.tunables.ExchangeSpacing, b.tunables.RejectionMax, p.count)
	}
}

package broker

import (
	"context"
	"time"
)

// Request is a read of one credential.
type Request struct {
	// Service is the service's name, exactly as the caller spelled it. The
	// caller has checked that it is well formed.
	Service string
	// Caller is the principal on whose account the read goes ("uid:1000").
	Caller string
	// Wait is how long the caller would wait for an answer; 0 or less asks for
	// what can be had at once.
	Wait time.Duration
	// NoCache asks for an exchange even if a credential is held. It joins an
	// exchange under way, and causes at most one in ExchangeSpacing.
	NoCache bool
}

// Answer is a credential that may be used.
type Answer struct {
	// Rendered is what Options.Render made of it.
	Rendered any
	// Fingerprint names the token.
	Fingerprint string
	// Exchange names the exchange that it came from.
	Exchange string
	// Hit says that it was held already.
	Hit bool
	// Age is the time since the vault last answered with it.
	Age time.Duration
	// TTL is how long it is fresh, negative if it is served stale.
	TTL time.Duration
	// Unconfirmed is for how long the grant should have been confirmed by the
	// vault and could not be; 0 if it was in time.
	Unconfirmed time.Duration
}

// Get returns the credential of a service. Its error is an *[Error], or
// ctx.Err() if the caller left. It returns by the end of the request's wait.
func (b *Broker) Get(ctx context.Context, r Request) (Answer, error) {
	if !r.NoCache {
		if a, ok := b.hit(r.Service); ok {
			return a, nil
		}
	}
	return b.wait(ctx, r, b.admitRead)
}

// hit answers from the cache, without the mutex.
func (b *Broker) hit(name string) (Answer, bool) {
	g := b.gate.Load()
	if g.err != nil {
		return Answer{}, false
	}
	v, ok := b.creds.Get(name)
	if !ok {
		return Answer{}, false
	}
	h := v.(*held) //nolint:forcetypeassert // nothing else is ever put there
	c := b.clocks()
	if h.epoch != g.epoch || !h.servable(c) || !g.alive(c) {
		return Answer{}, false
	}
	if b.gate.Load() != g {
		// The gate changed while we looked: the slow path sorts it out.
		return Answer{}, false
	}
	return b.answer(h, g, c.boot, true), true
}

// answer notes the read of h and makes the caller's answer of it.
func (b *Broker) answer(h *held, g *gate, now time.Duration, hit bool) Answer {
	h.lastRead.Store(int64(now))
	a := Answer{
		Rendered: h.rendered, Fingerprint: h.fingerprint, Exchange: h.exchange, Hit: hit,
		Age: now - h.storedAt, TTL: h.ttl(g, now),
	}
	overdue := now - time.Duration(b.confirmedAt.Load()+b.confirmInterval.Load())
	if overdue > 0 {
		a.Unconfirmed = overdue
	}
	if (overdue >= 0 || h.refreshAt != 0 && now >= h.refreshAt) && !b.nudged.Swap(true) {
		// The first read after idleness: Run planned nothing for what nobody
		// read.
		b.wakeRun()
	}
	return a
}

// verdict is what the slow path decided for a caller; exactly one of its fields
// is set, or none to be asked again at once.
type verdict struct {
	answer *Answer
	err    *Error
	join   *waiter
	pause  *pause
}

// pause makes a caller wait for something other than a flight.
type pause struct {
	// limit is how long at most.
	limit time.Duration
	// late is the answer if the caller's deadline comes first.
	late *Error
	// changed is closed when the broker's state changed.
	changed <-chan struct{}
}

// wait runs the slow path of a caller: admit decides, again and again, until
// there is an answer.
func (b *Broker) wait(ctx context.Context, r Request, admit func(Request, time.Time) verdict) (Answer, error) {
	deadline := time.Now().Add(r.Wait)
	for {
		v := b.decide(func() verdict { return admit(r, deadline) })
		switch {
		case v.answer != nil:
			return *v.answer, nil
		case v.err != nil:
			return Answer{}, v.err
		case v.join != nil:
			a, err, again := b.await(ctx, v.join)
			if again {
				continue
			}
			return a, err
		case v.pause != nil:
			if err := v.pause.sleep(ctx, deadline); err != nil {
				return Answer{}, err
			}
		}
	}
}

// decide asks admit under the mutex, which even a bug in it must not keep.
func (b *Broker) decide(admit func() verdict) verdict {
	b.mu.Lock()
	defer b.mu.Unlock()
	return admit()
}

// sleep waits until it is worth asking again, and fails at the deadline.
func (p *pause) sleep(ctx context.Context, deadline time.Time) error {
	left := time.Until(deadline)
	if left <= 0 {
		return p.late
	}
	timer := time.NewTimer(min(p.limit, left))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-p.changed:
		return nil
	case <-timer.C:
		if p.limit >= left {
			return p.late
		}
		return nil
	}
}

// pauseFor lets a caller wait for d if its deadline comes later, else fails it at
// once with err. b.mu is held.
func (b *Broker) pauseFor(d time.Duration, deadline time.Time, err *Error) verdict {
	if d >= time.Until(deadline) {
		return verdict{err: err.in(d)}
	}
	return verdict{pause: &pause{limit: d, late: err.in(d), changed: b.changed}}
}

// admitRead decides about a read. b.mu is held.
func (b *Broker) admitRead(r Request, deadline time.Time) verdict {
	c := b.clocks()
	if v, shut := b.admitGate(c, deadline); shut {
		return v
	}
	s := b.services[r.Service]
	if s == nil {
		s = &service{name: r.Service}
	}
	if v, done := b.admitHeld(s, r, c); done {
		return v
	}
	return b.admitFlight(s, r.Caller, deadline, c.boot)
}

// admitGate answers for a gate that is shut. b.mu is held.
func (b *Broker) admitGate(c clocks, deadline time.Time) (verdict, bool) {
	g := b.gate.Load()
	switch {
	case b.stopping:
		return verdict{err: errStopping}, true
	case b.trust.suspect:
		return b.admitSuspect(c.boot, deadline), true
	case g.err != nil:
		return verdict{err: g.err}, true
	case !g.alive(c):
		return verdict{err: errExpired}, true
	}
	return verdict{}, false
}

// admitSuspect makes a caller wait for the answer that confirms or clears the
// suspicion, if it may come before its deadline. b.mu is held.
func (b *Broker) admitSuspect(now time.Duration, deadline time.Time) verdict {
	tryAt := b.trust.nextProbe
	if f := b.confirming(); f != nil {
		tryAt = f.waitUntil
	}
	left := time.Until(deadline)
	if tryAt-now > left {
		return verdict{err: errSuspect.in(tryAt - now)}
	}
	return verdict{pause: &pause{limit: left, late: errSuspect.in(0), changed: b.changed}}
}

// admitHeld answers from what is held or remembered. A NoCache read passes it by
// unless the last exchange is too recent to make another, be it that it failed.
// b.mu is held.
func (b *Broker) admitHeld(s *service, r Request, c clocks) (verdict, bool) {
	force := r.NoCache && (s.triedAt == 0 || c.boot-s.triedAt >= b.tunables.ExchangeSpacing)
	if force && s.flight == nil && s.held != nil && s.held.servable(c) {
		// What is held would do, so this departure is the caller's own.
		force = b.forcedUntil(r.Caller, c.boot) == 0
	}
	if force || r.NoCache && s.flight != nil {
		return verdict{}, false
	}
	if s.held != nil && s.held.servable(c) {
		a := b.answer(s.held, b.gate.Load(), c.boot, true)
		return verdict{answer: &a}, true
	}
	if s.refusal != nil && c.boot < s.refusedUntil {
		return verdict{err: s.refusal.in(s.refusedUntil - c.boot)}, true
	}
	return verdict{}, false
}

// admitFlight joins the exchange under way for s, or starts one as soon as
// nothing forbids it. b.mu is held.
func (b *Broker) admitFlight(s *service, caller string, deadline time.Time, now time.Duration) verdict {
	if err := preflight(b.gate.Load().grant, s.name); err != nil {
		return verdict{err: err}
	}
	if s.flight != nil {
		return b.join(s.flight, caller, deadline, now)
	}
	if v, cooling := b.admitCooldown(s, caller, deadline, now); cooling {
		return v
	}
	if v, limited := b.admitName(s, caller, deadline, now); limited {
		return v
	}
	if time.Until(deadline) <= 0 {
		return verdict{err: errNoAnswer} // it would be for nobody
	}
	s = b.service(s.name)
	if s.held != nil {
		c := b.caller(caller)
		c.forced = append(c.forced, now+b.tunables.SlotReturn)
	}
	f := b.start(s, flightFor{caller: caller, class: classMiss})
	return b.join(f, caller, deadline, now)
}

package broker

import "time"

// cooldown keeps a failing vault from being asked too often.
type cooldown struct {
	// fails counts the failures in a row, since is when the first of them came.
	fails int
	since time.Duration
	// until is when it may be asked again.
	until time.Duration
	// err is what callers get in the meantime.
	err *Error
	// announced says that the log tells of it.
	announced bool
}

// extend books one more failure and returns the wait.
func (c *cooldown) extend(t Tunables, err *Error, now time.Duration) time.Duration {
	if c.fails == 0 {
		c.since = now
	}
	c.fails++
	wait := jitter(doubled(t.CooldownMin, t.CooldownMax, c.fails), 0.25)
	c.until, c.err = now+wait, err
	return wait
}

// outage is the state of the vault as a whole.
type outage struct {
	// active says that no service is asked but by one probe at a time, after a
	// connection failure or two services failing in a row.
	active bool
	cool   cooldown
	// probe is the flight that finds out whether it is over.
	probe *flight
	// lastFailed is the service that failed last, "" after a success.
	lastFailed string
	// failures counts those since the last success, since is when the first of
	// them came, and announced says that the log tells of one.
	failures  int
	since     time.Duration
	announced bool
	// aloneAt is when the log last told of a service that failed alone, 0 for
	// never.
	aloneAt time.Duration
	// limitedUntil is until when the vault asked to stay away (429), limits
	// counts how often it did since the log last told, at limitedAt.
	limitedUntil time.Duration
	limits       int
	limitedAt    time.Duration
	// lastSuccess is when the vault last answered as it should, 0 for never.
	lastSuccess time.Duration
}

// failed books a failure of f and returns how long its service, or all of them,
// are not asked again. b.mu is held.
func (b *Broker) failed(f *flight, err *Error, noConnection bool, now time.Duration) time.Duration {
	o, s := &b.outage, f.service
	if o.failures == 0 {
		o.since = now
	}
	o.failures++
	wait := s.cool.extend(b.tunables, err, now)
	begins := !o.active && (noConnection || o.lastFailed != "" && o.lastFailed != s.name)
	o.lastFailed = s.name
	switch {
	case begins:
		o.active = true
		wait = max(wait, o.cool.extend(b.tunables, err, now))
		b.recallWaiting(f)
	case o.active && o.probe == f:
		wait = max(wait, o.cool.extend(b.tunables, err, now))
	case o.active:
		// It was under way when the outage began: the probe decides.
		wait = max(wait, o.cool.until-now)
	}
	b.announceFailure(s, begins, now)
	return wait
}

// announceFailure logs the beginning of an outage: one line for all of it, and
// for services that fail while others work no more than one in CooldownMax.
// b.mu is held.
func (b *Broker) announceFailure(s *service, begins bool, now time.Duration) {
	o := &b.outage
	alone := !begins && s.cool.fails == 1 && (o.aloneAt == 0 || now-o.aloneAt >= b.tunables.CooldownMax)
	if o.announced || !begins && !alone {
		return
	}
	o.announced = true
	if alone {
		o.aloneAt, s.cool.announced = now, true
	}
	b.log.Warn("the vault fails; credentials that are held stay in use while they live",
		"service", s.name, "error", s.cool.err.Message)
}

// succeeded books an answer as it should be, which ends an outage for all.
// b.mu is held.
func (b *Broker) succeeded(s *service, now time.Duration) {
	o := &b.outage
	switch {
	case o.active:
		b.log.Info("the vault answers again", "after", (now - o.since).Round(time.Second), "failures", o.failures)
		for _, other := range b.services {
			other.cool = cooldown{}
		}
	case s.cool.announced:
		b.log.Info("the vault answers again", "service", s.name,
			"after", (now - s.cool.since).Round(time.Second), "failures", s.cool.fails)
	}
	s.cool = cooldown{}
	o.active, o.cool, o.probe = false, cooldown{}, nil
	o.lastFailed, o.failures, o.announced, o.lastSuccess = "", 0, false, now
}

// failing returns what fails at the moment, and since when: all services in an
// outage, or else the one that failed last; nil if nothing does. b.mu is held.
func (b *Broker) failing() (err *Error, since time.Duration) {
	if b.outage.active {
		return b.outage.cool.err, b.outage.since
	}
	var latest *cooldown
	for _, s := range b.services {
		if s.cool.fails > 0 && (latest == nil || s.cool.until > latest.until) {
			latest = &s.cool
		}
	}
	if latest == nil {
		return nil, 0
	}
	return latest.err, latest.since
}

// limited books a 429 and returns how long nobody is asked. b.mu is held.
func (b *Broker) limited(wait, now time.Duration) time.Duration {
	o := &b.outage
	if wait <= 0 {
		wait = b.tunables.LimitedDefault
	}
	wait = min(wait, b.tunables.LimitedMax)
	o.limitedUntil = max(o.limitedUntil, now+wait)
	o.limits++
	if o.limitedAt == 0 || now-o.limitedAt >= b.tunables.LimitedMax {
		b.log.Warn("the vault says that its limit of exchanges is used up", "retry_after", wait, "times", o.limits)
		o.limitedAt, o.limits = now, 0
	}
	return o.limitedUntil - now
}

// coolingUntil returns until when s must not be asked, and with which error; 0
// if it may be asked now. b.mu is held.
func (b *Broker) coolingUntil(s *service, now time.Duration) (time.Duration, *Error) {
	o := &b.outage
	switch {
	case now < o.limitedUntil:
		return o.limitedUntil, errRateLimited(o.limitedUntil - now)
	case o.active && now < o.cool.until:
		return o.cool.until, o.cool.err
	case now < s.cool.until && !o.active:
		return s.cool.until, s.cool.err
	}
	return 0, nil
}

// admitCooldown makes a caller wait for the end of a cool-down, and for the probe
// after it, if its deadline allows. b.mu is held.
func (b *Broker) admitCooldown(s *service, caller string, deadline time.Time, now time.Duration) (verdict, bool) {
	if until, err := b.coolingUntil(s, now); err != nil {
		return b.pauseFor(until-now, deadline, err), true
	}
	probe, err := b.outage.probe, b.outage.cool.err
	if !b.outage.active || probe == nil {
		return verdict{}, false
	}
	if wait, late := probe.tooLateFor(deadline, now); late {
		return verdict{err: err.in(wait)}, true
	}
	left := time.Until(deadline)
	if left > 0 {
		b.raise(probe, caller)
	}
	return verdict{pause: &pause{limit: left, late: err.in(0), changed: b.changed}}, true
}

package broker

import "time"

// caller is the account of one principal: what inventing names and false reports
// cost it. Broker.mu guards it.
type caller struct {
	// underway counts its flights for names that never succeeded.
	underway int
	// fruitless are the ends of the minutes in which its 404s and 403s count.
	fruitless []time.Duration
	// forced are the ends of the minutes in which the exchanges count that it
	// began although a credential was held.
	forced []time.Duration
	// reports is what its false rejection reports cost it, by service.
	reports map[string]*penalty
}

// penalty is the wait after false rejection reports.
type penalty struct {
	count int
	until time.Duration
}

// caller returns the account of name, adding it. b.mu is held.
func (b *Broker) caller(name string) *caller {
	c := b.callers[name]
	if c == nil {
		c = &caller{}
		b.callers[name] = c
	}
	return c
}

// admitName holds up a caller that asks for more unknown names than it may: a
// name that never succeeded takes one of its places while it is under way, and
// for a minute if it turns out not to exist. b.mu is held.
func (b *Broker) admitName(s *service, name string, deadline time.Time, now time.Duration) (verdict, bool) {
	c := b.callers[name]
	if s.known || c == nil {
		return verdict{}, false
	}
	c.expire(now)
	limit := b.tunables.UnknownNames
	switch {
	case c.underway+len(c.fruitless) < limit:
		return verdict{}, false
	case len(c.fruitless) >= limit:
		wait := c.fruitless[0] - now
		return b.pauseFor(wait, deadline, errTooManyNames(wait, limit)), true
	}
	// A place may come back as soon as one under way is answered.
	left := time.Until(deadline)
	return verdict{pause: &pause{limit: left, late: errTooManyNames(time.Second, limit), changed: b.changed}}, true
}

// forcedUntil returns until when the caller may force no more exchanges of
// credentials that are held, 0 if it may now: with many services at hand it could
// else use up the whole budget. b.mu is held.
func (b *Broker) forcedUntil(name string, now time.Duration) time.Duration {
	c := b.callers[name]
	if c == nil {
		return 0
	}
	c.expire(now)
	if len(c.forced) < b.tunables.UnknownNames {
		return 0
	}
	return c.forced[0]
}

// expire forgets what no longer counts.
func (c *caller) expire(now time.Duration) {
	for len(c.fruitless) > 0 && c.fruitless[0] <= now {
		c.fruitless = c.fruitless[1:]
	}
	for len(c.forced) > 0 && c.forced[0] <= now {
		c.forced = c.forced[1:]
	}
}

// forgetCallers drops the accounts that hold nothing. b.mu is held.
func (b *Broker) forgetCallers(now time.Duration) {
	for name, c := range b.callers {
		c.expire(now)
		for service, p := range c.reports {
			if now >= p.until+b.tunables.RejectionMax {
				delete(c.reports, service)
			}
		}
		if c.underway == 0 && len(c.fruitless) == 0 && len(c.forced) == 0 && len(c.reports) == 0 {
			delete(b.callers, name)
		}
	}
}

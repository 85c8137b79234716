package broker

import (
	"context"
	"time"
)

// waiter is a caller that waits for a flight.
type waiter struct {
	flight   *flight
	deadline time.Time
	result   chan result // capacity 1, written at most once
}

// result is what a flight gives a waiter: a credential, an error, or the advice
// to ask again.
type result struct {
	answer Answer
	err    *Error
	again  bool
}

// delayed books how long f has to wait for a slot.
func (b *Broker) delayed(f *flight, wait time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if f.forgotten {
		return
	}
	f.waitUntil, f.waitClass = b.clock.Boot()+wait, f.dep.Class()
	b.tellLate(f)
}

// tellLate answers at once whoever waits for f, which can't depart before their
// deadline. b.mu is held.
func (b *Broker) tellLate(f *flight) {
	now := b.clock.Boot()
	for w := range f.waiters {
		if wait, late := f.tooLateFor(w.deadline, now); late {
			b.deliver(w, result{err: b.delayedError(wait)})
		}
	}
	if f == b.outage.probe || f.verdict {
		b.broadcast() // others than its waiters wait for it, too
	}
	b.dropIfUnwanted(f)
}

// tooLateFor reports whether f is known not to depart before the deadline of a
// caller, and in how long it does.
func (f *flight) tooLateFor(deadline time.Time, now time.Duration) (wait time.Duration, late bool) {
	if f.waitUntil == 0 || f.waitClass < classMiss {
		return 0, false
	}
	wait = f.waitUntil - now
	return wait, wait >= time.Until(deadline)
}

// raiseSettles is how soon the budget has spoken up about a departure that became
// more urgent, if that changes when it can leave. If it has not by then, what it
// said before holds.
const raiseSettles = 50 * time.Millisecond

// raise makes f as urgent as a caller's read. b.mu is held.
func (b *Broker) raise(f *flight, caller string) {
	if f.dep.Class() >= classMiss {
		return
	}
	f.dep.Raise(classMiss, caller)
	if f.waitUntil == 0 {
		return
	}
	time.AfterFunc(raiseSettles, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		if f.waitUntil != 0 && !f.forgotten {
			f.waitClass = f.dep.Class()
			b.tellLate(f)
		}
	})
}

// delayedError is what a caller gets whose deadline comes before the slot.
// b.mu is held.
func (b *Broker) delayedError(wait time.Duration) *Error {
	if b.trust.suspect {
		return errSuspect.in(wait)
	}
	return errRateLimited(wait)
}

// join makes a caller wait for f. b.mu is held.
func (b *Broker) join(f *flight, caller string, deadline time.Time, now time.Duration) verdict {
	if wait, late := f.tooLateFor(deadline, now); late {
		return verdict{err: b.delayedError(wait)}
	}
	w := &waiter{flight: f, deadline: deadline, result: make(chan result, 1)}
	f.waiters[w] = struct{}{}
	b.raise(f, caller)
	return verdict{join: w}
}

// await waits for the flight of w. again says that the caller should ask anew.
func (b *Broker) await(ctx context.Context, w *waiter) (a Answer, err error, again bool) {
	timer := time.NewTimer(time.Until(w.deadline))
	defer timer.Stop()
	select {
	case r := <-w.result:
		return r.unpack()
	case <-ctx.Done():
		_ = b.leave(w) // whatever it got, nobody is there to take it
		return Answer{}, ctx.Err(), false
	case <-timer.C:
	}
	if late := b.leave(w); late != nil {
		return Answer{}, late, false
	}
	r := <-w.result // it came at the same moment
	return r.unpack()
}

// unpack returns r as await does.
func (r result) unpack() (a Answer, err error, again bool) {
	if r.err != nil {
		return Answer{}, r.err, false // never a nil *Error in an error
	}
	return r.answer, nil, r.again
}

// leave takes w off its flight, which is dropped if nobody else needs it. It
// returns the error of a caller whose deadline came, nil if a result is there.
func (b *Broker) leave(w *waiter) *Error {
	b.mu.Lock()
	defer b.mu.Unlock()
	f := w.flight
	if _, waiting := f.waiters[w]; !waiting {
		return nil
	}
	delete(f.waiters, w)
	b.dropIfUnwanted(f)
	if wait := f.waitUntil - b.clock.Boot(); !f.departed && f.waitUntil != 0 {
		return b.delayedError(wait)
	}
	return errNoAnswer
}

// deliver gives w its result. b.mu is held.
func (b *Broker) deliver(w *waiter, r result) {
	delete(w.flight.waiters, w)
	w.result <- r
}

// deliverAll gives every waiter of f the same result. b.mu is held.
func (b *Broker) deliverAll(f *flight, r result) {
	for w := range f.waiters {
		b.deliver(w, r)
	}
}

package budget

import (
	"context"
	"time"

	"github.com/grantexd/grantexd/upstream"
)

// pollEvery is how often a waiting departure looks at the clock and the ledger:
// a machine that slept, or another instance, wakes no timer of ours.
const pollEvery = time.Second

// shortestNap keeps a waiter whose time has come, but not its slot, from
// spinning.
const shortestNap = time.Millisecond

// acquire waits for a slot and returns its id. Everyone who waits here runs the
// same dispatch whenever it wakes, so there is always somebody to run it.
func (b *Budget) acquire(ctx context.Context, dep *upstream.Departure) (slot string, err error) {
	if err := ctx.Err(); err != nil {
		return "", err
	}
	t := newTicket(dep)
	if dep.Attempts() > 0 {
		return b.acquireNow(t)
	}
	b.do(func() {
		b.queue.add(t)
		b.dispatch()
	})
	nap := time.NewTimer(pollEvery)
	defer nap.Stop()
	for {
		v := b.look(t)
		switch {
		case ctx.Err() != nil:
			b.leave(t)
			return "", ctx.Err()
		case v.slot != "":
			return v.slot, nil
		case v.news:
			dep.Delayed(v.wait)
		}
		nap.Reset(v.nap)
		select {
		case <-t.wake:
		case <-dep.Changed():
		case <-nap.C:
		case <-ctx.Done():
			continue // straight out: a review could still serve it
		}
		b.review(t, dep)
	}
}

// acquireNow takes a slot if there is one for the ticket at once. It is one step,
// so that nobody in the queue is told of a longer wait because of it.
func (b *Budget) acquireNow(t *ticket) (slot string, err error) {
	b.do(func() {
		b.queue.add(t)
		b.dispatch()
		if slot = t.slot; slot != "" {
			return
		}
		now := b.clock.Boot()
		err = &upstream.NoSlotError{Wait: max(0, t.at-now)}
		b.queue.remove(t)
		b.estimate(now)
	})
	return slot, err
}

// view is what the owner of a ticket sees of it.
type view struct {
	slot string        // the slot's id, "" while it waits
	wait time.Duration // how long it will
	news bool          // the owner has not heard of that yet
	nap  time.Duration // how long it may sleep until it is worth looking again
}

// look returns how the ticket stands.
func (b *Budget) look(t *ticket) (v view) {
	b.do(func() {
		now := b.clock.Boot()
		v.slot = t.slot
		v.wait = max(0, t.at-now)
		v.nap = max(shortestNap, min(v.wait, b.due-now))
		if v.news = t.news(); v.news {
			t.told = t.at
		}
	})
	return v
}

// review brings the ticket up to date with its departure, and serves the queue if
// that changed something or it is time to.
func (b *Budget) review(t *ticket, dep *upstream.Departure) {
	class, caller, mayTakeLast := dep.Class(), dep.Caller(), dep.MayTakeLast()
	b.do(func() {
		if t.slot != "" {
			return
		}
		changed := t.mayTakeLast != mayTakeLast
		t.mayTakeLast = mayTakeLast
		if t.class != class || t.caller != caller {
			b.queue.remove(t)
			t.class, t.caller = class, caller
			b.queue.add(t)
			changed = true
		}
		if changed || b.clock.Boot() >= b.due {
			b.dispatch()
		}
	})
}

// leave takes the ticket out of the queue, or gives back the slot that it was
// given in the meantime: nothing has left with it.
func (b *Budget) leave(t *ticket) {
	b.do(func() {
		if t.slot == "" {
			b.queue.remove(t)
			b.estimate(b.clock.Boot())
			return
		}
		b.state.drop(t.slot)
		b.unsaved = true
		b.dispatch()
	})
}

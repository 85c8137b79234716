package broker

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/grantexd/grantexd/daemon/grant"
)

const (
	// lookAgain bounds Run's sleep: timers stand still while the machine
	// sleeps, and the wall clock may be set.
	lookAgain = 15 * time.Second
	// nudgeSpacing bounds how often reads wake Run, since a read that is due
	// for a refresh stays so as long as the vault is down.
	nudgeSpacing = 100 * time.Millisecond
	// coolMemory times CooldownMax after the end of its cool-down a service that
	// nobody asks for counts as failing no more.
	coolMemory = 10
)

var errStopped = errors.New("grantexd is stopping")

// Run starts the exchanges, refreshes what is read, confirms the grant and
// forgets what expired, until ctx ends. Then every waiter is told and every
// flight has ended. Its error is always nil: cancellation is no failure.
func (b *Broker) Run(ctx context.Context) error {
	var flights sync.WaitGroup
	defer flights.Wait()
	defer b.stop()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case answer := <-b.beat:
			close(answer)
			continue
		case <-b.wake:
		case <-timer.C:
			b.nudged.Store(false)
		}
		next := b.pass(ctx, &flights)
		if b.nudged.Load() {
			next = min(next, nudgeSpacing)
		}
		timer.Reset(next)
	}
}

// stop tells every waiter that nothing more will come.
func (b *Broker) stop() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.stopping = true
	for _, s := range b.services {
		if f := s.flight; f != nil {
			f.cancel(errStopped)
			b.deliverAll(f, result{err: errStopping})
		}
	}
	b.launch = nil
	b.broadcast()
}

// agenda collects when Run has to look again.
type agenda struct {
	now  time.Duration
	next time.Duration
}

// at plans a look at t, which is in the future.
func (a *agenda) at(t time.Duration) {
	if t > a.now && t < a.next {
		a.next = t
	}
}

// pass does all that is due, and returns in how long to look again. Flights that
// it starts end with ctx.
func (b *Broker) pass(ctx context.Context, flights *sync.WaitGroup) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := b.clocks()
	a := &agenda{now: c.boot, next: c.boot + lookAgain}
	b.expireWithdrawn(a)
	b.creds.DeleteExpired()
	b.forgetCallers(c.boot)
	for _, s := range b.services {
		b.sweep(s, c)
	}
	switch g := b.gate.Load(); {
	case !g.alive(c):
		b.expire()
	case g.err != nil:
		b.probe(a)
	default:
		a.at(g.bootDeadline)
		for _, s := range b.services {
			b.refresh(s, a)
		}
		b.prefetchAll(a)
		b.check(a)
	}
	b.departAll(ctx, flights)
	return a.next - a.now
}

// departAll starts the flights that were made since the last look.
// b.mu is held.
func (b *Broker) departAll(ctx context.Context, flights *sync.WaitGroup) {
	for _, f := range b.launch {
		flights.Go(func() {
			// Those that were abandoned are in no book, and must end as well.
			stop := context.AfterFunc(ctx, func() { f.cancel(errStopped) })
			defer stop()
			b.fly(f)
		})
	}
	b.launch = nil
}

// expireWithdrawn purges what a grant that was withdrawn too long ago left.
// b.mu is held.
func (b *Broker) expireWithdrawn(a *agenda) {
	if !b.trust.isWithheld || !b.holdsAny() {
		return
	}
	if end := b.trust.withheldAt + b.tunables.WithdrawnKeep; a.now <= end {
		a.at(end + 1)
		return
	}
	b.purge()
	g := *b.gate.Load()
	g.epoch = b.epoch
	b.gate.Store(&g)
}

// sweep forgets what no longer counts of s. b.mu is held.
func (b *Broker) sweep(s *service, c clocks) {
	if s.held != nil && !s.held.servable(c) {
		b.evict(s)
	}
	if s.refusal != nil && c.boot >= s.refusedUntil {
		s.refusal = nil
	}
	if s.flight == nil && c.boot > s.cool.until+coolMemory*b.tunables.CooldownMax {
		// Nobody asked for so long that it says nothing any more.
		s.cool = cooldown{}
	}
	idle := s.held == nil && s.refusal == nil && s.flight == nil && s.cool.fails == 0
	if idle && (!s.known || len(b.services) > 2*b.tunables.MaxServices) {
		delete(b.services, s.name)
	}
}

// refresh renews what s holds if it is due and was read. b.mu is held.
func (b *Broker) refresh(s *service, a *agenda) {
	h := s.held
	if h == nil {
		return
	}
	a.at(h.bootDeadline)
	urgentAt := h.bootDeadline - b.tunables.UrgentBefore
	if f := s.flight; f != nil {
		if h.refreshAt == 0 || a.now < urgentAt {
			a.at(urgentAt)
			return
		}
		f.dep.Raise(classMiss, "")
		return
	}
	due := max(h.refreshAt, h.storedAt+b.tunables.ExchangeSpacing)
	if h.refreshAt == 0 || !h.readSinceStored() {
		return // a read of it wakes us
	}
	if a.now < due {
		a.at(due)
		return
	}
	why := flightFor{class: classRefresh, background: true}
	if a.now >= urgentAt {
		why.class = classMiss
	}
	b.startUnlessCooling(s, why, a)
}

// startUnlessCooling starts a background flight, or plans it for when the vault
// may be asked again. b.mu is held.
func (b *Broker) startUnlessCooling(s *service, why flightFor, a *agenda) {
	if until, err := b.coolingUntil(s, a.now); err != nil {
		a.at(until)
		return
	}
	if b.outage.active && b.outage.probe != nil {
		return // its end wakes us
	}
	b.start(s, why)
}

// prefetchAll asks for the configured services once for each consent.
// b.mu is held.
func (b *Broker) prefetchAll(a *agenda) {
	for _, name := range b.prefetch {
		s := b.service(name)
		if b.prefetched[name] || s.flight != nil || s.held != nil || preflight(b.gate.Load().grant, name) != nil {
			continue
		}
		b.startUnlessCooling(s, flightFor{class: classMiss, background: true}, a)
	}
}

// check re-exchanges the credential that was confirmed longest ago, once an
// interval while anything is read, since an exchange is the only call that tells
// of a revocation. b.mu is held.
func (b *Broker) check(a *agenda) {
	confirmed := time.Duration(b.confirmedAt.Load())
	due := confirmed + b.tunables.ConfirmInterval - b.tunables.ConfirmLead
	if confirmed == 0 {
		due = a.now
	}
	if a.now < due {
		a.at(due)
		return
	}
	if b.isChecking() {
		return // its end wakes us
	}
	s := b.confirmedLongestAgo(confirmed, a)
	if s == nil {
		return
	}
	if s.flight != nil {
		s.flight.dep.Raise(classCheck, "")
		return
	}
	b.startUnlessCooling(s, flightFor{class: classCheck, background: true}, a)
}

// isChecking reports whether an exchange is under way as the check. b.mu is held.
func (b *Broker) isChecking() bool {
	for _, s := range b.services {
		if s.flight != nil && s.flight.dep.Class() == classCheck {
			return true
		}
	}
	return false
}

// confirmedLongestAgo returns the service to check by: of those read since the
// last confirmation, the one whose credential the vault confirmed longest ago,
// or one that is under way anyway; nil if nothing was read or all are cooling.
// b.mu is held.
func (b *Broker) confirmedLongestAgo(confirmed time.Duration, a *agenda) *service {
	if confirmed != 0 {
		confirmed = max(confirmed, b.outage.lastSuccess) // the answer comes after the departure
	}
	var oldest *service
	for _, s := range b.services {
		if s.held == nil || time.Duration(s.held.lastRead.Load()) <= confirmed {
			continue
		}
		if s.flight != nil {
			return s
		}
		if until, err := b.coolingUntil(s, a.now); err != nil {
			a.at(until)
			continue
		}
		if oldest == nil || s.held.storedAt < oldest.held.storedAt {
			oldest = s
		}
	}
	return oldest
}

// probe asks again with a token that is under suspicion, or that was rejected,
// when its time has come. b.mu is held.
func (b *Broker) probe(a *agenda) {
	if !b.trust.suspect && !b.trust.isRejected || b.gate.Load().state != grant.Usable {
		return
	}
	if a.now < b.trust.nextProbe {
		a.at(b.trust.nextProbe)
		return
	}
	s := b.service(b.trust.suspectService)
	if s.flight != nil || b.outage.active && b.outage.probe != nil {
		return // it asks already, or was under way when the suspicion arose; its end wakes us
	}
	if until, err := b.coolingUntil(s, a.now); err != nil {
		b.trust.nextProbe = until
		a.at(until)
		return
	}
	b.start(s, flightFor{class: classCheck, background: true, verdict: true})
}

package broker

import (
	"context"
	"errors"
	"time"

	"github.com/grantexd/grantexd/upstream"
	"github.com/grantexd/grantexd/upstream/secret"
)

const (
	classRefresh = upstream.ClassRefresh
	classMiss    = upstream.ClassMiss
	classCheck   = upstream.ClassCheck
)

// flight is an exchange under way: one for each service, whoever waits for it.
// Broker.mu guards it.
type flight struct {
	service    *service
	token      secret.Text
	generation uint64
	dep        *upstream.Departure
	// ctx ends when the flight is dropped; cancel drops it.
	cancel context.CancelCauseFunc
	ctx    context.Context //nolint:containedctx // it is the flight's life, made before the goroutine that uses it
	// waiters are the callers that wait for it.
	waiters map[*waiter]struct{}
	// background flights depart even if nobody waits.
	background bool
	// verdict flights may clear a suspicion or end a rejection.
	verdict bool
	// departed says that the first attempt left, leftAt when the latest one did.
	departed bool
	leftAt   time.Duration
	// timer ends it FlightTimeout after it departed.
	timer *time.Timer
	// waitUntil is until when it waits for a slot, 0 if it does not, as was said
	// when it was of the class waitClass.
	waitUntil time.Duration
	waitClass upstream.Class
	// forgotten says that it is out of the books, and its waiters were told.
	forgotten bool
	// unknownFor is the caller charged for a name that never succeeded, nil for
	// a known service.
	unknownFor *caller
	// reporters are the callers that reported the token rejected.
	reporters map[string]struct{}
}

// flightFor says why a flight is started.
type flightFor struct {
	caller     string
	class      upstream.Class
	background bool
	verdict    bool
}

var (
	errDropped  = errors.New("nobody waits for the exchange any more")
	errFlight   = errors.New("the exchange took too long")
	errReplaced = errors.New("the grant changed")
	errRecalled = errors.New("the exchange was called back before it departed")
)

// start makes a flight for s; Run lets it leave. b.mu is held.
func (b *Broker) start(s *service, why flightFor) *flight {
	ctx, cancel := context.WithCancelCause(context.Background())
	f := &flight{
		service: s, token: b.gate.Load().grant.Token, generation: b.generation, ctx: ctx, cancel: cancel,
		waiters: map[*waiter]struct{}{}, background: why.background, verdict: why.verdict,
	}
	f.dep = upstream.NewDeparture(why.class, why.caller, b.hooks(f))
	s.flight = f
	if !s.known && !why.background {
		f.unknownFor = b.caller(why.caller)
		f.unknownFor.underway++
	}
	if b.outage.active && b.outage.probe == nil {
		b.outage.probe = f
	}
	b.launch = append(b.launch, f)
	b.wakeRun()
	return f
}

func (b *Broker) hooks(f *flight) upstream.DepartureHooks {
	return upstream.DepartureHooks{
		Delayed:     func(wait time.Duration) { b.delayed(f, wait) },
		Departed:    func() { b.departed(f) },
		MayTakeLast: b.mayTakeLast,
	}
}

// lastSlotReturns is within which time a slot comes back for certain: the budget
// holds one for 61 s after its answer, and 30 s longer after a stall.
const lastSlotReturns = 2 * time.Minute

// mayTakeLast reports whether no revocation check can be due before a slot comes
// back: nothing is held, or the grant was confirmed recently. It takes no lock,
// since the budget asks in the middle of its own work.
func (b *Broker) mayTakeLast() bool {
	confirmed := time.Duration(b.confirmedAt.Load())
	if confirmed == 0 {
		return b.creds.ItemCount() == 0
	}
	due := confirmed + time.Duration(b.confirmInterval.Load())
	return due-b.clock.Boot() > lastSlotReturns
}

// departed starts the flight's own deadline as its first attempt leaves.
func (b *Broker) departed(f *flight) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f.waitUntil, f.leftAt = 0, b.clock.Boot()
	if f.departed {
		return
	}
	f.departed = true
	f.timer = time.AfterFunc(b.tunables.FlightTimeout, func() { f.cancel(errFlight) })
}

// dropIfUnwanted drops a flight that has not departed and that nobody waits for.
// b.mu is held.
func (b *Broker) dropIfUnwanted(f *flight) {
	if len(f.waiters) > 0 || f.departed || f.background {
		return
	}
	f.cancel(errDropped)
	b.forget(f)
}

// forget takes f out of the books. b.mu is held.
func (b *Broker) forget(f *flight) {
	f.forgotten = true
	if f.service.flight == f {
		f.service.flight = nil
	}
	if f.unknownFor != nil {
		f.unknownFor.underway--
		f.unknownFor = nil
	}
	if b.outage.probe == f {
		b.outage.probe = nil
	}
	b.broadcast()
}

// abandonFlights drops every flight, since the grant changed: those that
// departed already fly on, so that their slots are released in time, but their
// results are for nobody. b.mu is held.
func (b *Broker) abandonFlights() {
	b.generation++
	for _, s := range b.services {
		if s.flight != nil {
			b.abandon(s.flight, errReplaced)
		}
	}
}

// recallWaiting drops the flights that have not departed yet, but for f, since
// nobody is to ask the vault now but one. b.mu is held.
func (b *Broker) recallWaiting(f *flight) {
	for _, s := range b.services {
		if s.flight != nil && s.flight != f && !s.flight.departed {
			b.abandon(s.flight, errRecalled)
		}
	}
}

// abandon lets the waiters of f ask again, and f for nobody. b.mu is held.
func (b *Broker) abandon(f *flight, why error) {
	b.deliverAll(f, result{again: true})
	if !f.departed {
		f.cancel(why)
	}
	b.forget(f)
}

// fly makes the exchange and books its outcome. Run runs it.
func (b *Broker) fly(f *flight) {
	defer f.cancel(nil)
	cred, err := b.exchange(f)
	if b.firstRejection(f, err) {
		// The file may hold a new token that was not looked at yet.
		if err := b.reread(f.ctx); err != nil {
			b.log.Warn("re-reading the grant file failed", "error", err)
		}
		if b.askAgain(f) {
			cred, err = b.exchange(f)
		}
	}
	b.settle(f, cred, err)
}

// exchange asks the vault, and takes in what any answer tells.
func (b *Broker) exchange(f *flight) (*upstream.Credential, error) {
	b.mu.Lock()
	dep := f.dep
	b.mu.Unlock()
	cred, err := b.up.Exchange(upstream.WithDeparture(f.ctx, dep), f.token, f.service.name)
	b.noteAnswer(f, cred, err)
	if cause := context.Cause(f.ctx); err != nil && cause != nil {
		// context.Canceled does not tell why.
		return nil, cause
	}
	return cred, err
}

// noteAnswer counts the answers of the vault, and reads its clock. One that is
// not of its shape is a proxy's, which may have a clock of its own.
func (b *Broker) noteAnswer(f *flight, cred *upstream.Credential, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.clock.Boot()
	if f.departed && !f.forgotten {
		f.service.triedAt = now
	}
	var date time.Time
	var e *upstream.Error
	switch {
	case err == nil:
		date = cred.Date
	case errors.As(err, &e) && e.Code != "":
		date = e.Date
	default:
		return
	}
	b.exchanges.Add(1)
	b.noteVaultClock(date, now-f.departedAt(now), now)
}

// departedAt is when the attempt left that was answered now.
func (f *flight) departedAt(now time.Duration) time.Duration {
	if !f.departed {
		return now // nobody said
	}
	return f.leftAt
}

// stopTimer stops the flight's own deadline. Broker.mu is held.
func (f *flight) stopTimer() {
	if f.timer != nil {
		f.timer.Stop()
	}
}

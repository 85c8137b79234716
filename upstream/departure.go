package upstream

import (
	"context"
	"sync"
	"time"
)

// Class says how urgent a departure is. The budget lets a higher class go
// first.
type Class int

// The classes, least urgent first.
const (
	// ClassRefresh is a refresh that nobody waits for yet. It may only use
	// what is left of the budget above a reserve. It is the zero value.
	ClassRefresh Class = iota
	// ClassMiss is an exchange somebody waits for, or a refresh of a
	// credential that is about to expire.
	ClassMiss
	// ClassCheck is an exchange that tells whether the grant is still
	// accepted: one slot is kept for it.
	ClassCheck
)

// String returns the class's name for logs and metrics.
func (c Class) String() string {
	switch c {
	case ClassRefresh:
		return "refresh"
	case ClassMiss:
		return "miss"
	case ClassCheck:
		return "check"
	}
	return "unknown"
}

// Departure tells whoever schedules departures (see the package budget) on
// whose behalf an exchange wants to leave and how urgently, and hears back when
// it has to wait. It travels in the context of [Client.Exchange], since the
// schedule is kept below the retrying client. Make one with [NewDeparture]; it
// is safe for concurrent use.
type Departure struct {
	hooks   DepartureHooks
	changed chan struct{}

	mu       sync.Mutex // guards the rest
	class    Class
	caller   string
	attempts int
}

// DepartureHooks are called by the scheduler, never with a lock of its held.
// Every one of them may be nil.
type DepartureHooks struct {
	// Delayed is called each time it becomes known that the departure has to
	// wait for a slot: wait is how long, as far as can be told now. It may be
	// called again with a longer or a shorter wait.
	Delayed func(wait time.Duration)
	// Departed is called as an attempt leaves, once for each attempt.
	Departed func()
	// MayTakeLast reports whether the departure may use the slot kept for
	// the revocation check, because none can be due before a slot comes
	// back. Nil means no. [ClassCheck] always may.
	MayTakeLast func() bool
}

// NewDeparture describes a departure of the given class for caller, which is an
// opaque name ("uid:1000"); departures of one class go in turns by caller.
func NewDeparture(class Class, caller string, hooks DepartureHooks) *Departure {
	return &Departure{hooks: hooks, changed: make(chan struct{}, 1), class: class, caller: caller}
}

// Class returns how urgent the departure is now.
func (d *Departure) Class() Class {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.class
}

// Caller returns for whom the departure is now.
func (d *Departure) Caller() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.caller
}

// Raise makes the departure as urgent as class, for caller, if it was less
// urgent before: a caller has joined a refresh that still waits for a slot.
func (d *Departure) Raise(class Class, caller string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if class <= d.class {
		return
	}
	d.class, d.caller = class, caller
	select {
	case d.changed <- struct{}{}:
	default: // a change that was not looked at yet is pending already
	}
}

// Changed receives when [Departure.Raise] changed something.
func (d *Departure) Changed() <-chan struct{} { return d.changed }

// Delayed tells the owner that the departure has to wait.
func (d *Departure) Delayed(wait time.Duration) {
	if d.hooks.Delayed != nil {
		d.hooks.Delayed(wait)
	}
}

// Attempts returns how many attempts have left, as [Departure.Departed] was
// told. It lets the scheduler tell a retry, which must not wait for a slot, from
// a first attempt: each call that may wait needs a departure of its own.
func (d *Departure) Attempts() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.attempts
}

// Departed counts an attempt and tells the owner that it leaves now.
func (d *Departure) Departed() {
	d.mu.Lock()
	d.attempts++
	d.mu.Unlock()
	if d.hooks.Departed != nil {
		d.hooks.Departed()
	}
}

// MayTakeLast reports whether the departure may use the last slot.
func (d *Departure) MayTakeLast() bool {
	if d.Class() == ClassCheck {
		return true
	}
	return d.hooks.MayTakeLast != nil && d.hooks.MayTakeLast()
}

type departureKey struct{}

// WithDeparture returns a context that carries d to the scheduler.
func WithDeparture(ctx context.Context, d *Departure) context.Context {
	return context.WithValue(ctx, departureKey{}, d)
}

// DepartureFrom returns the departure that ctx carries. Without one it returns a
// new one of [ClassMiss] for nobody, which is what a bare call of
// [Client.Exchange] is.
func DepartureFrom(ctx context.Context) *Departure {
	if d, ok := ctx.Value(departureKey{}).(*Departure); ok {
		return d
	}
	return NewDeparture(ClassMiss, "", DepartureHooks{})
}

package budget

import (
	"slices"
	"time"

	"github.com/grantexd/grantexd/upstream"
)

// ticket is a departure that waits for a slot. The budget's mutex guards it.
type ticket struct {
	class       upstream.Class
	caller      string
	mayTakeLast bool

	// slot is the id of the slot that it was given, "" while it waits.
	slot string
	// at is when it can leave, as far as is known, and told what its owner
	// was told of that, both in boot time.
	at, told time.Duration
	// wake receives when slot or at has changed.
	wake chan struct{}
}

// worthTelling is by how much an estimate must change to be told again.
const worthTelling = 100 * time.Millisecond

// newTicket returns a ticket for dep as it is now.
func newTicket(dep *upstream.Departure) *ticket {
	return &ticket{
		class:       dep.Class(),
		caller:      dep.Caller(),
		mayTakeLast: dep.MayTakeLast(),
		told:        -time.Hour, // never, so whatever comes is news
		wake:        make(chan struct{}, 1),
	}
}

// news reports whether the owner should hear of at.
func (t *ticket) news() bool { return (t.at - t.told).Abs() > worthTelling }

// poke wakes the ticket's owner.
func (t *ticket) poke() {
	select {
	case t.wake <- struct{}{}:
	default: // it has not looked since the last time
	}
}

// queue holds the tickets in the order in which they may leave: checks, then
// misses with their callers taking turns, then refreshes. The zero value is
// empty.
type queue struct {
	checks, refreshes []*ticket
	// misses are those of each caller, oldest first.
	misses map[string][]*ticket
	// turns are the callers that have misses, the next one first.
	turns []string
	size  int
}

// add appends the ticket to its class, and its caller to those who take turns.
func (q *queue) add(t *ticket) {
	q.size++
	switch t.class {
	case upstream.ClassCheck:
		q.checks = append(q.checks, t)
	case upstream.ClassMiss:
		if q.misses == nil {
			q.misses = make(map[string][]*ticket)
		}
		if len(q.misses[t.caller]) == 0 {
			q.turns = append(q.turns, t.caller)
		}
		q.misses[t.caller] = append(q.misses[t.caller], t)
	default:
		q.refreshes = append(q.refreshes, t)
	}
}

// remove takes the ticket out, if it is there.
func (q *queue) remove(t *ticket) {
	switch t.class {
	case upstream.ClassCheck:
		q.checks = q.without(q.checks, t)
	case upstream.ClassMiss:
		if q.misses[t.caller] = q.without(q.misses[t.caller], t); len(q.misses[t.caller]) == 0 {
			delete(q.misses, t.caller)
			q.turns = slices.DeleteFunc(q.turns, func(c string) bool { return c == t.caller })
		}
	default:
		q.refreshes = q.without(q.refreshes, t)
	}
}

// serve takes the ticket out because it leaves: it was its caller's turn.
func (q *queue) serve(t *ticket) {
	q.remove(t)
	if t.class != upstream.ClassMiss {
		return
	}
	if i := slices.Index(q.turns, t.caller); i >= 0 {
		q.turns = append(slices.Delete(q.turns, i, i+1), t.caller)
	}
}

func (q *queue) without(tickets []*ticket, t *ticket) []*ticket {
	i := slices.Index(tickets, t)
	if i < 0 {
		return tickets
	}
	q.size--
	return slices.Delete(tickets, i, i+1)
}

// order returns all tickets, next first.
func (q *queue) order() []*ticket {
	all := make([]*ticket, 0, q.size)
	all = append(all, q.checks...)
	callers := slices.Clone(q.turns)
	for round := 0; len(callers) > 0; round++ {
		callers = slices.DeleteFunc(callers, func(c string) bool { return len(q.misses[c]) <= round })
		for _, c := range callers {
			all = append(all, q.misses[c][round])
		}
	}
	return append(all, q.refreshes...)
}

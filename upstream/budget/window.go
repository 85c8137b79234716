package budget

import (
	"slices"
	"time"

	"github.com/grantexd/grantexd/upstream"
)

// slot is a departure as the window counts it. Times are boot times.
type slot struct {
	id string
	// left is when it left. Those of one window differ, so that they tell the
	// order even if several left at once.
	left time.Duration
	// release is when it stops counting.
	release time.Duration
	// own marks a departure of this process, and flying one of those that has
	// not ended: it counts whatever release says.
	own, flying bool
}

// lesson is what the headers of an answer taught: of what leaves after asOf, the
// vault takes no more than remaining until the boot time until.
type lesson struct {
	remaining int
	// others is how many requests the vault counted that were not ours.
	others      int
	asOf, until time.Duration
}

// window is the sliding window: what counts now, and what the vault said.
type window struct {
	slots   []slot
	learned lesson
	// blocked is the boot time until which nothing may leave.
	blocked time.Duration
}

// clone returns a copy that shares nothing with w.
func (w *window) clone() window {
	c := *w
	c.slots = slices.Clone(w.slots)
	return c
}

// prune forgets the departures that don't count any more. The lesson remembers
// those that left after it, since its own window may be longer than ours.
func (w *window) prune(now time.Duration) {
	w.slots = slices.DeleteFunc(w.slots, func(s slot) bool {
		over := !s.flying && s.release <= now
		if over && s.left > w.learned.asOf {
			w.learned.remaining = max(0, w.learned.remaining-1)
		}
		return over
	})
}

// free is how many more may leave now, as far as their number goes. All slots
// must count: call prune first.
func (w *window) free(now time.Duration, limit int) int {
	free := limit - len(w.slots)
	if now < w.learned.until {
		free = min(free, w.quota())
	}
	return max(0, free)
}

// quota is what is left of the lesson.
func (w *window) quota() int {
	after := 0
	for _, s := range w.slots {
		if s.left > w.learned.asOf {
			after++
		}
	}
	return w.learned.remaining - after
}

// take adds a departure of this process which leaves now.
func (w *window) take(id string, now time.Duration, l Limits) {
	left := now
	for _, s := range w.slots {
		left = max(left, s.left+1)
	}
	left = max(left, w.learned.asOf+1)
	w.slots = append(w.slots, slot{id: id, left: left, release: left + l.holdUnanswered(), own: true, flying: true})
}

// find returns the slot with the id, which must be there.
func (w *window) find(id string) *slot {
	return &w.slots[slices.IndexFunc(w.slots, func(s slot) bool { return s.id == id })]
}

// drop forgets the slot with the id: it has not left after all.
func (w *window) drop(id string) {
	w.slots = slices.DeleteFunc(w.slots, func(s slot) bool { return s.id == id })
}

// learn takes in the headers of an answer to a departure that left at left. An
// answer to one that left before the departure whose answer was used last says
// nothing new: answers overtake each other.
func (w *window) learn(rate upstream.RateLimit, left, now time.Duration, l Limits) {
	if !rate.Known || left <= w.learned.asOf {
		return
	}
	w.learned = lesson{
		remaining: rate.Remaining,
		others:    max(0, rate.Limit-rate.Remaining-len(w.slots)),
		asOf:      left,
		until:     now + min(rate.Reset, l.MaxBlock),
	}
}

// block stops all departures for wait.
func (w *window) block(wait, now time.Duration, l Limits) {
	w.blocked = max(w.blocked, now+min(wait, l.MaxBlock))
}

// newer returns what is known after both lessons.
func newer(a, b lesson) lesson {
	switch {
	case a.asOf > b.asOf:
		return a
	case a.asOf < b.asOf:
		return b
	}
	a.remaining = min(a.remaining, b.remaining)
	a.until = max(a.until, b.until)
	return a
}

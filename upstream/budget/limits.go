package budget

import (
	"fmt"
	"time"

	"github.com/grantexd/grantexd/upstream"
)

// The defaults of [Limits].
const (
	// DefaultLimit and DefaultWindow are what the vault grants: 20 requests a
	// minute.
	DefaultLimit  = 20
	DefaultWindow = 60 * time.Second
	// DefaultMargin is added to the window: the vault's clock is not ours, and
	// its times are whole seconds.
	DefaultMargin = time.Second
	// DefaultStall is the longest that the vault was seen to hang before it
	// counted and answered a request.
	DefaultStall = 30 * time.Second
	// DefaultReserve leaves 8 of 20 slots to those who wait for a credential.
	DefaultReserve = 8
	// DefaultMaxBlock bounds how long an answer can keep everyone away, since
	// a header may be wrong.
	DefaultMaxBlock = 10 * time.Minute
)

// maxLimit bounds the ledger's size: each departure of a window is kept in it.
const maxLimit = 1000

// Limits are the numbers of a budget. Zero means the default for each of them.
type Limits struct {
	// Limit is how many departures are allowed in a Window, from 1 to 1000.
	// Zero means DefaultLimit.
	Limit int
	// Window is the time in which they are counted. Zero means DefaultWindow.
	Window time.Duration
	// Margin is how much longer than Window a departure keeps its slot. Zero
	// means DefaultMargin.
	Margin time.Duration
	// Stall is how long after it left the vault may still count a departure
	// that was given up. Zero means DefaultStall.
	Stall time.Duration
	// Reserve is how many free slots refreshes leave alone. Zero means
	// DefaultReserve; a negative one leaves only the slot that is kept for the
	// revocation check, and one of Limit or more means one less than Limit.
	Reserve int
	// MaxBlock is the longest time for which an answer of the vault can stop
	// all departures. Zero means DefaultMaxBlock.
	MaxBlock time.Duration
}

// withDefaults fills in what was left out and checks the rest.
func (l Limits) withDefaults() (Limits, error) {
	if l.Limit == 0 {
		l.Limit = DefaultLimit
	}
	if l.Limit < 1 || l.Limit > maxLimit {
		return l, fmt.Errorf("budget: the limit must be from 1 to %d, not %d", maxLimit, l.Limit)
	}
	for _, d := range []struct {
		value    *time.Duration
		standard time.Duration
		name     string
	}{
		{&l.Window, DefaultWindow, "window"},
		{&l.Margin, DefaultMargin, "margin"},
		{&l.Stall, DefaultStall, "stall"},
		{&l.MaxBlock, DefaultMaxBlock, "longest block"},
	} {
		if *d.value == 0 {
			*d.value = d.standard
		}
		if *d.value < 0 || *d.value > maxSpan {
			return l, fmt.Errorf("budget: the %s must be positive and at most %s, not %s", d.name, maxSpan, *d.value)
		}
	}
	if l.Reserve == 0 {
		l.Reserve = DefaultReserve
	}
	return l, nil
}

// maxSpan bounds every duration of [Limits], so that sums of them can't
// overflow.
const maxSpan = 24 * time.Hour

// hold is how long an answered departure keeps its slot.
func (l Limits) hold() time.Duration { return l.Window + l.Margin }

// holdUnanswered is how long after it left a departure keeps its slot if nobody
// ever learns what became of it.
func (l Limits) holdUnanswered() time.Duration { return l.Stall + l.hold() }

// interval is the time between departures in the paced mode: what keeps to the
// limit without a memory.
func (l Limits) interval() time.Duration { return l.hold() / time.Duration(l.Limit) }

// need is how many slots must be free for a departure of class. What is kept for
// others is never all there is, or a small limit would let nobody leave.
func (l Limits) need(class upstream.Class, mayTakeLast bool) int {
	kept := min(1, l.Limit-1)
	switch {
	case class == upstream.ClassCheck, class == upstream.ClassMiss && mayTakeLast:
		return 1
	case class == upstream.ClassMiss:
		return 1 + kept
	default:
		return 1 + max(kept, min(l.Reserve, l.Limit-1))
	}
}

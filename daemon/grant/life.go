package grant

import (
	"crypto/sha256"
	"math"
	"slices"
	"time"
)

// warnBefore is the time before a token's expiry at which the last warning is
// due, whatever the length of its life.
const warnBefore = 5 * time.Minute

// life is how long a token may be used. The zero value is that of no token.
//
// It is kept when the token is withdrawn, so that a token that comes back has
// neither a longer life nor the same warnings again.
type life struct {
	token     [sha256.Size]byte // the grant's hash
	expiresAt time.Time         // zero: never
	length    time.Duration     // from its issue to its expiry
	// deadline is expiresAt in boot time, reckoned when the token was first
	// found alive; it holds where the wall clock was set back since.
	deadline time.Duration
	anchored bool // deadline is set
	warned   int  // how many marks were passed when a warning was last given
}

// newLife returns the life of g, first seen at the given time.
func newLife(g *Grant, wall time.Time, boot time.Duration) life {
	l := life{token: g.Hash, expiresAt: g.Claims.ExpiresAt}
	if l.expiresAt.IsZero() {
		return l
	}
	issued := g.Claims.IssuedAt
	if issued.IsZero() || issued.After(l.expiresAt) {
		issued = wall
	}
	l.length = l.expiresAt.Sub(issued)
	l.anchor(wall, boot)
	return l
}

// anchor sets the deadline in boot time, once. A token that is past its expiry by
// the wall clock gets none: the clock may be wrong and be set right later.
func (l *life) anchor(wall time.Time, boot time.Duration) {
	if left := l.expiresAt.Sub(wall); !l.anchored && !l.expiresAt.IsZero() && left > 0 {
		l.deadline, l.anchored = boot+min(left, math.MaxInt64-boot), true
	}
}

// left returns how long the token may still be used by the clock that gives it
// less, 0 or less if it expired, and math.MaxInt64 if it never does.
func (l life) left(wall time.Time, boot time.Duration) time.Duration {
	if l.expiresAt.IsZero() {
		return math.MaxInt64
	}
	left := l.expiresAt.Sub(wall)
	if l.anchored {
		left = min(left, l.deadline-boot)
	}
	return left
}

// expired reports whether the token may no longer be used.
func (l life) expired(wall time.Time, boot time.Duration) bool { return l.left(wall, boot) <= 0 }

// marks are the times before the expiry at which a warning is due, longest first.
func (l life) marks() []time.Duration {
	m := []time.Duration{l.length / 4, l.length / 10, warnBefore}
	slices.Sort(m)
	slices.Reverse(m)
	return m
}

// passed counts the marks that lie behind when left remains.
func (l life) passed(left time.Duration) int {
	if l.expiresAt.IsZero() {
		return 0
	}
	n := 0
	for _, mark := range l.marks() {
		if left <= mark {
			n++
		}
	}
	return n
}

// next returns the time until the next mark or the expiry is reached.
func (l life) next(left time.Duration) time.Duration {
	if l.expiresAt.IsZero() {
		return math.MaxInt64
	}
	for _, mark := range l.marks() {
		if left > mark {
			return left - mark
		}
	}
	return left
}

package budget

import "time"

// pacing is the mode in which departures leave at even intervals, because
// nothing on disk remembers them.
type pacing struct {
	// reason is why, nil outside of the mode.
	reason error
	// next is the boot time of the next departure.
	next time.Duration
	// begun is true once next was set, until a departure is in the ledger: a
	// ledger that comes and goes must not put off the next departure forever.
	begun bool
}

// start enters the mode, or stays in it, and reports whether it is new.
func (p *pacing) start(reason error, now time.Duration, l Limits) bool {
	entered := p.reason == nil
	p.reason = reason
	if !p.begun {
		p.begun = true
		p.next = now + l.interval()
	}
	return entered
}

// stop leaves the mode and reports whether it was on.
func (p *pacing) stop() bool {
	left := p.reason != nil
	p.reason = nil
	return left
}

// on reports whether departures are paced.
func (p *pacing) on() bool { return p.reason != nil }

// departed notes that one leaves.
func (p *pacing) departed(now time.Duration, l Limits) {
	if p.on() {
		p.next = now + l.interval()
	} else {
		p.begun = false
	}
}

package budget

import "time"

// Status is how the budget stands.
type Status struct {
	// Limit is how many departures are allowed in a Window.
	Limit  int
	Window time.Duration
	// Used is how many departures count now, those of other instances on the
	// same ledger included.
	Used int
	// Free is how many more could leave now, by our count and the vault's.
	Free int
	// Waiting is how many departures wait for a slot.
	Waiting int
	// NextSlotIn is how long it takes until one may leave, if none of those
	// waiting did. Zero if one may now.
	NextSlotIn time.Duration
	// BlockedFor is how long the vault asked us to stay away: it answered 429,
	// or said that nothing remains. Zero if it did not.
	BlockedFor time.Duration
	// Others is how many requests the vault has counted in its current window
	// that were not ours. Zero if it said nothing.
	Others int
	// Paced says why departures leave at even intervals: the error of the
	// ledger, which then can't be used. "" if it can.
	Paced string
}

// Status returns how the budget stands now. It reads the ledger. It may be called
// from a departure's hook.
func (b *Budget) Status() (s Status) {
	b.do(func() {
		b.dispatch()
		now := b.clock.Boot()
		b.state.prune(now)
		s = Status{
			Limit:      b.limits.Limit,
			Window:     b.limits.Window,
			Used:       len(b.state.slots),
			Waiting:    b.queue.size,
			NextSlotIn: b.forecast(now).at(1) - now,
			BlockedFor: max(0, b.state.blocked-now),
		}
		if now < b.state.learned.until {
			s.Others = b.state.learned.others
			if b.state.learned.remaining == 0 {
				s.BlockedFor = max(s.BlockedFor, b.state.learned.until-now)
			}
		}
		if s.NextSlotIn == 0 {
			s.Free = b.state.free(now, b.limits.Limit)
			if b.pacing.on() {
				s.Free = 1
			}
		}
		if b.pacing.on() {
			s.Paced = b.pacing.reason.Error()
		}
	})
	return s
}

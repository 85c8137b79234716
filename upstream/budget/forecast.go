package budget

import (
	"slices"
	"time"
)

// forecast tells when departures can leave which do so one after the other, each
// being answered at once. It is exact as long as nobody else spends and none
// needs fewer free slots than one before it.
type forecast struct {
	limits   Limits
	releases []time.Duration // when slots come back, ascending
	quota    int             // how many more may leave before until
	until    time.Duration
	earliest time.Duration // the next one can't leave before
	interval time.Duration // between two of them
}

// newForecast starts at now, with w, which must be pruned. next is when the next
// one may leave and interval the time between two in the paced mode; both are
// zero elsewhere.
func newForecast(w *window, now, next, interval time.Duration, l Limits) *forecast {
	f := &forecast{
		limits:   l,
		releases: make([]time.Duration, 0, 2*len(w.slots)),
		quota:    w.quota(),
		until:    w.learned.until,
		earliest: max(now, w.blocked, next),
		interval: interval,
	}
	for _, s := range w.slots {
		release := s.release
		if s.flying {
			release = now + l.hold()
		}
		f.releases = append(f.releases, release)
	}
	slices.Sort(f.releases)
	return f
}

// at is when one can leave that needs so many free slots.
func (f *forecast) at(need int) time.Duration {
	at := f.earliest
	if last := len(f.releases) - 1 - (f.limits.Limit - need); last >= 0 {
		at = max(at, f.releases[last])
	}
	if at < f.until && f.quota < need {
		at = f.until
	}
	return at
}

// leave lets one leave, and returns when that is.
func (f *forecast) leave(need int) time.Duration {
	at := f.at(need)
	release := at + f.limits.hold()
	i, _ := slices.BinarySearch(f.releases, release)
	f.releases = slices.Insert(f.releases, i, release)
	f.quota--
	f.earliest = at + f.interval
	return at
}

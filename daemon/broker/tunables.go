package broker

import "time"

// Tunables are the broker's numbers. The zero value of a field stands for the
// default named at it.
type Tunables struct {
	// ExpiryMargin is how long before its expiry a credential is no longer
	// served, so that it doesn't expire on its way to the service. Default 5 s.
	ExpiryMargin time.Duration
	// RefreshFraction is the part of a credential's life before its expiry at
	// which it is refreshed, within RefreshLeadMin and RefreshLeadMax and never
	// more than half of its life. Defaults 0.2, 30 s, 5 min.
	RefreshFraction                float64
	RefreshLeadMin, RefreshLeadMax time.Duration
	// RefreshMinLife is the life below which a credential is not refreshed
	// ahead at all. Default 60 s.
	RefreshMinLife time.Duration
	// ExchangeSpacing is the least time between two exchanges of one service
	// that no expiry or miss asks for. Default 30 s.
	ExchangeSpacing time.Duration
	// UrgentBefore is how long before its expiry a refresh becomes as urgent as
	// a miss. Default 60 s.
	UrgentBefore time.Duration
	// FreshWithoutExpiry is how long a credential without expiry counts as
	// fresh. Default 5 min.
	FreshWithoutExpiry time.Duration
	// StaleWithoutExpiry is the age beyond which a credential without expiry is
	// never served. Default 1 h.
	StaleWithoutExpiry time.Duration
	// BackgroundSlots is how many departures a minute may go to refreshes.
	// Default 12: the budget's limit less its reserve.
	BackgroundSlots int
	// SlotReturn is how long a departure holds its slot of the budget.
	// Default 61 s.
	SlotReturn time.Duration
	// RememberNotFound, RememberForbidden and RememberExpired are how long a
	// 404, a 403 and an expired credential are remembered. Defaults 30 s,
	// 5 min, 30 s.
	RememberNotFound, RememberForbidden, RememberExpired time.Duration
	// ConfirmInterval is within which time the grant is confirmed while there
	// are readers: how fast a revocation bites. Default 5 min.
	ConfirmInterval time.Duration
	// ConfirmLead is how long before the end of the interval the check starts,
	// so that its answer arrives within the interval; at most half of it.
	// Default 10 s.
	ConfirmLead time.Duration
	// WithdrawnKeep is how long the cache of a withdrawn grant is kept, unserved,
	// in case the same grant comes back. Default 60 s.
	WithdrawnKeep time.Duration
	// ProbeMin and ProbeMax bound the wait between probes of a rejected token,
	// which doubles. Defaults 1 min and 10 min.
	ProbeMin, ProbeMax time.Duration
	// CooldownMin and CooldownMax bound the wait after failures, which doubles.
	// Defaults 1 s and 60 s.
	CooldownMin, CooldownMax time.Duration
	// LimitedDefault is how long to wait after a 429 that does not say, and
	// LimitedMax the longest wait a 429 can ask for. Defaults 60 s and 10 min.
	LimitedDefault, LimitedMax time.Duration
	// FlightTimeout ends a flight that long after it departed. Default 15 s.
	FlightTimeout time.Duration
	// UnknownNames is how many names that never succeeded a caller may have
	// under way at once, and how many of them may be fruitless in a SlotReturn.
	// It is also how many exchanges of credentials that are held a caller may
	// begin in that time, by NoCache or by reports. Default 4.
	UnknownNames int
	// RejectionMax is the longest wait that repeated false rejection reports
	// cost their reporter. Default 10 min.
	RejectionMax time.Duration
	// MaxServices bounds the services held. Default 1024.
	MaxServices int
}

func (t Tunables) withDefaults() Tunables {
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{
		{&t.ExpiryMargin, 5 * time.Second},
		{&t.RefreshLeadMin, 30 * time.Second},
		{&t.RefreshLeadMax, 5 * time.Minute},
		{&t.RefreshMinLife, time.Minute},
		{&t.ExchangeSpacing, 30 * time.Second},
		{&t.UrgentBefore, time.Minute},
		{&t.FreshWithoutExpiry, 5 * time.Minute},
		{&t.StaleWithoutExpiry, time.Hour},
		{&t.SlotReturn, 61 * time.Second},
		{&t.RememberNotFound, 30 * time.Second},
		{&t.RememberForbidden, 5 * time.Minute},
		{&t.RememberExpired, 30 * time.Second},
		{&t.ConfirmInterval, 5 * time.Minute},
		{&t.ConfirmLead, 10 * time.Second},
		{&t.WithdrawnKeep, time.Minute},
		{&t.ProbeMin, time.Minute},
		{&t.ProbeMax, 10 * time.Minute},
		{&t.CooldownMin, time.Second},
		{&t.CooldownMax, time.Minute},
		{&t.LimitedDefault, time.Minute},
		{&t.LimitedMax, 10 * time.Minute},
		{&t.FlightTimeout, 15 * time.Second},
		{&t.RejectionMax, 10 * time.Minute},
	} {
		if *d.field <= 0 {
			*d.field = d.value
		}
	}
	// Else each answer would make the next check due.
	t.ConfirmLead = min(t.ConfirmLead, t.ConfirmInterval/2)
	if t.RefreshFraction <= 0 {
		t.RefreshFraction = 0.2
	}
	if t.BackgroundSlots <= 0 {
		t.BackgroundSlots = 12
	}
	if t.UnknownNames <= 0 {
		t.UnknownNames = 4
	}
	if t.MaxServices <= 0 {
		t.MaxServices = 1024
	}
	return t
}

// doubled returns first, doubled n-1 times, at most limit.
func doubled(first, limit time.Duration, n int) time.Duration {
	d := first
	for i := 1; i < n && d < limit; i++ {
		d *= 2
	}
	return min(d, limit)
}

// DefaultTunables returns the numbers that hold where nothing else is said.
func DefaultTunables() Tunables { return Tunables{}.withDefaults() }

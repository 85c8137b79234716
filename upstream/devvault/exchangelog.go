package devvault

import (
	"maps"
	"sync"
	"time"
)

// keptExchanges is how many exchanges the log keeps; counts go on beyond.
const keptExchanges = 10_000

// Exchange is one exchange that the vault has seen. There is no token in it.
type Exchange struct {
	// At is when it arrived.
	At time.Time `json:"at"`
	// CountedAt is when it was counted against the rate limit: as it arrived,
	// unless a fault delayed that. Zero if it has not been counted yet.
	CountedAt time.Time `json:"countedAt"`
	// GrantID is the grant of its token, "" if the token was not made here.
	GrantID string `json:"grantId"`
	// Service is what it asked for, "" if that was no service's name.
	Service string `json:"service"`
	// Status is what it was answered; zero if it was not, since a fault
	// swallowed the answer, or the caller has left, or it is under way.
	Status int `json:"status"`

	generation int // of the log it is in: resets end one
}

// Exchanges is the log of the exchanges since the start or the last reset.
type Exchanges struct {
	// Total is how many have arrived.
	Total int `json:"total"`
	// ByStatus counts them by status; those without an answer yet are not in.
	ByStatus map[int]int `json:"byStatus"`
	// MaxInWindow is the most that were counted in any span as long as the
	// rate limit's window, wherever it starts.
	MaxInWindow int `json:"maxInWindow"`
	// Window is the length of that span.
	Window time.Duration `json:"-"`
	// Exchanges are the newest ones, oldest first: 10,000 at most.
	Exchanges []Exchange `json:"exchanges"`
}

// exchangeLog records exchanges.
type exchangeLog struct {
	window time.Duration

	mu         sync.Mutex // guards the rest, and the exchanges in it
	generation int
	total      int
	byStatus   map[int]int
	recent     []time.Time // counted less than a window before the newest one
	most       int
	kept       []*Exchange
}

func newExchangeLog(window time.Duration) *exchangeLog {
	return &exchangeLog{window: window, byStatus: map[int]int{}}
}

// arrived opens the record of an exchange, to be handed to counted and answered.
func (l *exchangeLog) arrived(grantID, service string, now time.Time) *Exchange {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := &Exchange{At: now.UTC(), GrantID: grantID, Service: service, generation: l.generation}
	l.total++
	if len(l.kept) >= keptExchanges {
		l.kept = l.kept[1:]
	}
	l.kept = append(l.kept, e)
	return e
}

// counted notes that e counts from now on.
func (l *exchangeLog) counted(e *Exchange, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e.CountedAt = now.UTC()
	first := 0
	for first < len(l.recent) && now.Sub(l.recent[first]) >= l.window {
		first++
	}
	l.recent = append(l.recent[first:], now)
	l.most = max(l.most, len(l.recent))
}

// answered notes the status that e got.
func (l *exchangeLog) answered(e *Exchange, status int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e.Status = status
	if e.generation == l.generation {
		l.byStatus[status]++
	}
}

func (l *exchangeLog) report() Exchanges {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := Exchanges{
		Total: l.total, ByStatus: maps.Clone(l.byStatus), MaxInWindow: l.most, Window: l.window,
		Exchanges: make([]Exchange, 0, len(l.kept)),
	}
	for _, e := range l.kept {
		r.Exchanges = append(r.Exchanges, *e)
	}
	return r
}

func (l *exchangeLog) reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.generation++
	l.total, l.byStatus, l.recent, l.most, l.kept = 0, map[int]int{}, nil, 0, nil
}

package devvault

import (
	"crypto/sha256"
	"encoding/hex"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// The vault's limits on the developer's calls, as they were observed.
const (
	// writesPerWindow limits stores, and apart from them deletes, by address.
	writesPerWindow = 30
	// generalPerWindow limits all the other calls together, by address.
	generalPerWindow = 5000
	// planPerWindow limits the calls of one API key: the free plan.
	planPerWindow = 100
	// unlimited is what the headers show where a limit was turned off.
	unlimited = 1 << 30
	// sweepAt is how many windows a limiter holds before it looks for those
	// that have ended.
	sweepAt = 1024
)

// quota is what is left of a window after a call was counted.
type quota struct {
	limit, remaining int
	reset            time.Duration // until the window ends
	exceeded         bool
}

// limiter counts calls in fixed windows, each of which starts with its first
// call. Calls beyond the limit count too, but don't extend the window.
type limiter struct {
	limit  int
	period time.Duration

	mu      sync.Mutex // guards windows
	windows map[string]*window
}

type window struct {
	start time.Time
	count int
}

// newLimiter lets limit calls through in each period; a negative limit means all.
func newLimiter(limit int, period time.Duration) *limiter {
	if limit < 0 {
		limit = unlimited
	}
	return &limiter{limit: limit, period: period, windows: map[string]*window{}}
}

// count adds one call of key at now and returns what is left.
func (l *limiter) count(key string, now time.Time) quota {
	l.mu.Lock()
	defer l.mu.Unlock()
	w := l.windows[key]
	if w == nil || now.Sub(w.start) >= l.period {
		if w == nil && len(l.windows) >= sweepAt {
			l.sweep(now)
		}
		w = &window{start: now}
		l.windows[key] = w
	}
	w.count++
	return quota{
		limit:     l.limit,
		remaining: max(0, l.limit-w.count),
		reset:     l.period - now.Sub(w.start),
		exceeded:  w.count > l.limit,
	}
}

func (l *limiter) sweep(now time.Time) {
	for key, w := range l.windows {
		if now.Sub(w.start) >= l.period {
			delete(l.windows, key)
		}
	}
}

// reset forgets all windows.
func (l *limiter) reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	clear(l.windows)
}

// limits are all the limiters of a vault.
type limits struct {
	exchange *limiter // by address or token
	store    *limiter // by address
	remove   *limiter // by address
	general  *limiter // by address
	plan     *limiter // by developer
	byToken  bool
}

func newLimits(o Options) limits {
	writes, general, plan := writesPerWindow, generalPerWindow, planPerWindow
	if o.NoDeveloperLimits {
		writes, general, plan = -1, -1, -1
	}
	// Only the exchange's window can be set: it is what clients are built
	// around. The others are a minute, as the vault has them.
	return limits{
		exchange: newLimiter(o.RateLimit, o.RateWindow),
		store:    newLimiter(writes, time.Minute),
		remove:   newLimiter(writes, time.Minute),
		general:  newLimiter(general, time.Minute),
		plan:     newLimiter(plan, time.Minute),
		byToken:  o.RateBy == RateByToken,
	}
}

func (l limits) reset() {
	for _, one := range []*limiter{l.exchange, l.store, l.remove, l.general, l.plan} {
		one.reset()
	}
}

// exchangeKey is whom an exchange is counted for.
func (l limits) exchangeKey(r *http.Request) string {
	if token, ok := bearer(r); ok && l.byToken {
		sum := sha256.Sum256([]byte(token)) // the table must not hold tokens
		return "token " + hex.EncodeToString(sum[:])
	}
	return clientAddress(r)
}

// clientAddress is the caller's address without the port; what has no port, as
// net.Pipe, is one caller.
func clientAddress(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

// bearer returns the token of the Authorization header. The vault knows the
// scheme only as "Bearer", with a capital.
func bearer(r *http.Request) (string, bool) {
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	token = strings.TrimSpace(token)
	return token, ok && token != ""
}

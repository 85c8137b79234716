package budget

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/grantexd/grantexd/upstream"
	"github.com/grantexd/grantexd/upstream/clock"
)

// errReset stands for a connection that broke.
var errReset = errors.New("connection reset")

// vault is the RoundTripper at the bottom. It answers 200 at once unless answer
// says otherwise.
type vault struct {
	clock clock.Clock

	mu     sync.Mutex
	left   []time.Duration // when each request came, in boot time
	answer func(ctx context.Context, n int) (*http.Response, error)
}

func (v *vault) RoundTrip(req *http.Request) (*http.Response, error) {
	v.mu.Lock()
	n := len(v.left)
	v.left = append(v.left, v.clock.Boot())
	answer := v.answer
	v.mu.Unlock()
	if answer == nil {
		return respond(200), nil
	}
	return answer(req.Context(), n)
}

func (v *vault) seen() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return len(v.left)
}

// respond returns an answer with the status and header lines "name: value".
func respond(status int, lines ...string) *http.Response {
	h := make(http.Header)
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ": ")
		h.Add(name, value)
	}
	return &http.Response{StatusCode: status, Header: h, Body: http.NoBody}
}

// rate returns the vault's three header lines.
func rate(limit, remaining, reset string) []string {
	return []string{"x-ratelimit-limit: " + limit, "x-ratelimit-remaining: " + remaining, "x-ratelimit-reset: " + reset}
}

// hang answers only when the request is given up.
func hang(ctx context.Context, _ int) (*http.Response, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// rig is a budget with a vault behind it, inside a bubble.
type rig struct {
	t      *testing.T
	clock  *clock.Fake
	vault  *vault
	budget *Budget
	start  time.Duration
	log    *logBook
}

// inBubble runs f in a bubble with a rig of the options.
func inBubble(t *testing.T, o Options, f func(t *testing.T, r *rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		c := clock.NewFake()
		r := &rig{t: t, clock: c, vault: &vault{clock: c}, start: c.Boot(), log: &logBook{}}
		r.budget = r.open(o)
		f(t, r)
	})
}

// open returns another budget of the rig's clock and log.
func (r *rig) open(o Options) *Budget {
	r.t.Helper()
	o.Logger = slog.New(r.log)
	if o.Clock == nil {
		o.Clock = r.clock
	}
	if o.BootID == nil {
		o.BootID = func() string { return "boot-1" }
	}
	b, err := New(o)
	require.NoError(r.t, err)
	return b
}

// now is the boot time since the rig began.
func (r *rig) now() time.Duration { return r.clock.Boot() - r.start }

// until sleeps until the rig is so old.
func (r *rig) until(at time.Duration) {
	time.Sleep(at - r.now())
	synctest.Wait()
}

// trip is a request under way.
type trip struct {
	dep    *upstream.Departure
	cancel context.CancelFunc
	end    chan struct{}

	mu     sync.Mutex
	delays []time.Duration
	left   time.Duration // since the rig began, -1 if it did not leave
	err    error
}

// request describes a trip.
type request struct {
	class       upstream.Class
	caller      string
	mayTakeLast func() bool
	budget      *Budget       // nil: the rig's
	timeout     time.Duration // of its context, 0: none
}

// ask sends a request and returns without waiting for it.
func (r *rig) ask(q request) *trip {
	trip := &trip{left: -1, end: make(chan struct{})}
	trip.dep = upstream.NewDeparture(q.class, q.caller, upstream.DepartureHooks{
		Delayed: func(wait time.Duration) {
			trip.mu.Lock()
			defer trip.mu.Unlock()
			trip.delays = append(trip.delays, wait)
		},
		Departed: func() {
			trip.mu.Lock()
			defer trip.mu.Unlock()
			trip.left = r.now()
		},
		MayTakeLast: q.mayTakeLast,
	})
	r.send(trip, q)
	return trip
}

// send makes another attempt of the trip.
func (r *rig) send(trip *trip, q request) {
	if q.budget == nil {
		q.budget = r.budget
	}
	ctx, cancel := context.WithCancel(upstream.WithDeparture(r.t.Context(), trip.dep))
	if q.timeout > 0 {
		ctx, cancel = context.WithTimeout(ctx, q.timeout)
	}
	trip.cancel = cancel
	trip.end = make(chan struct{})
	end := trip.end
	rt := q.budget.Transport(r.vault)
	go func() {
		defer close(end)
		defer cancel()
		_, err := roundTrip(ctx, rt)
		trip.mu.Lock()
		defer trip.mu.Unlock()
		trip.err = err
	}()
}

// ended reports whether the trip is over; the caller must have waited.
func (trip *trip) ended() bool {
	select {
	case <-trip.end:
		return true
	default:
		return false
	}
}

// asks sends n requests of the class, each with a caller of its own.
func (r *rig) asks(n int, class upstream.Class) []*trip {
	trips := make([]*trip, n)
	for i := range trips {
		trips[i] = r.ask(request{class: class, caller: string(rune('a' + i))})
		synctest.Wait()
	}
	return trips
}

func roundTrip(ctx context.Context, rt http.RoundTripper) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://vault.example"+upstream.PathExchange, strings.NewReader("{}"))
	if err != nil {
		return nil, err
	}
	return rt.RoundTrip(req)
}

// logBook is a slog.Handler that keeps messages.
type logBook struct {
	mu       sync.Mutex
	messages []string
}

func (l *logBook) Enabled(context.Context, slog.Level) bool { return true }
func (l *logBook) WithAttrs([]slog.Attr) slog.Handler       { return l }
func (l *logBook) WithGroup(string) slog.Handler            { return l }
func (l *logBook) Handle(_ context.Context, r slog.Record) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.messages = append(l.messages, r.Message)
	return nil
}

// The messages of the package.
const (
	logPaced   = "budget ledger can't be used, departures are paced"
	logUnpaced = "budget ledger can be used again"
	logFull    = "budget ledger can't be read and counts as full"
)

// memoryLedger is a ledger without a file, whose disk can fail.
type memoryLedger struct {
	mu      sync.Mutex
	content []byte
	exists  bool
	saves   int
	// broken fails every update, full every save; dead does both without a
	// word, as for a process that was killed.
	broken, full error
}

func (l *memoryLedger) update(_ bool, decide func([]byte, bool, func([]byte) error) error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.broken != nil {
		return l.broken
	}
	return decide(l.content, !l.exists, func(content []byte) error {
		if l.full != nil {
			return l.full
		}
		l.content, l.exists = content, true
		l.saves++
		return nil
	})
}

// fail sets what fails from now on.
func (l *memoryLedger) fail(broken, full error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.broken, l.full = broken, full
}

// on puts the budget onto another ledger.
func (b *Budget) on(l ledger) *Budget {
	b.do(func() {
		b.ledger = l
		b.dispatch()
	})
	return b
}

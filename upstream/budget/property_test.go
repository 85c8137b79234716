package budget

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/grantexd/grantexd/upstream"
)

// seedOf returns a new seed, and how many to try from it. BUDGET_TEST_SEED shows
// one again, BUDGET_TEST_SEQUENCES tries more of them.
func seedOf(t *testing.T) (seed uint64, count int) {
	t.Helper()
	number := func(name string, otherwise uint64) uint64 {
		s := os.Getenv(name)
		if s == "" {
			return otherwise
		}
		n, err := strconv.ParseUint(s, 10, 64)
		require.NoError(t, err, name)
		return n
	}
	if seed = number("BUDGET_TEST_SEED", 0); seed != 0 {
		return seed, 1
	}
	standard := uint64(2000)
	if raceDetector {
		standard = 100
	}
	return rand.Uint64(), int(number("BUDGET_TEST_SEQUENCES", standard))
}

func TestNeverMoreThanTheLimit(t *testing.T) {
	seed, count := seedOf(t)
	t.Logf("seeds from %d, %d of them", seed, count)
	departures := 0
	for i := range count {
		w := newWorld(t, seed+uint64(i))
		w.run()
		departures += len(w.left)
	}
	t.Logf("%d departures", departures)
	require.Greater(t, departures, 5*count, "a test in which nothing leaves shows nothing")
}

// world is a random history of instances, crashes, reboots and a vault that
// counts when it likes. True time is abs; the clocks of the machine derive from
// it.
type world struct {
	t    *testing.T
	seed uint64
	rnd  *rand.Rand

	abs, booted, skew time.Duration
	boots             int
	limits            Limits
	ledger            *memoryLedger // nil: memory only
	faulty            bool          // it fails at times; then nothing crashes
	budgets           []*Budget
	waiting           []waiter
	flights           []*flight

	left, counted []time.Duration // in true time
}

// waiter is who waits for a slot.
type waiter struct {
	*ticket
	budget *Budget
}

// flight is a departure under way.
type flight struct {
	budget *Budget
	id     string
	left   time.Duration // boot time
	end    time.Duration // true time
	resp   *http.Response
}

func (w *world) Now() time.Time      { return time.Unix(1_800_000_000, 0).Add(w.abs + w.skew) }
func (w *world) Boot() time.Duration { return w.abs - w.booted }

func newWorld(t *testing.T, seed uint64) *world {
	w := &world{t: t, seed: seed, rnd: rand.New(rand.NewPCG(seed, 1)), abs: time.Hour}
	limit := []int{1, 2, 3, 5, 20}[w.rnd.IntN(5)]
	w.limits = Limits{Limit: limit, Reserve: limit / 3}
	instances := 1
	switch w.rnd.IntN(3) {
	case 0: // memory only, one process that lives on
	case 1:
		w.ledger, w.faulty = &memoryLedger{}, true
	default:
		w.ledger = &memoryLedger{}
		instances += w.rnd.IntN(2)
	}
	for range instances {
		w.budgets = append(w.budgets, w.open())
	}
	return w
}

func (w *world) open() *Budget {
	boot := fmt.Sprintf("boot-%d", w.boots)
	b, err := New(Options{Limit: w.limits.Limit, Reserve: w.limits.Reserve, Clock: w, BootID: func() string { return boot }})
	require.NoError(w.t, err)
	if w.ledger != nil {
		b.on(w.ledger)
	}
	return b
}

// run lets random things happen, and then waits until everyone has left.
func (w *world) run() {
	for range 10 + w.limits.Limit + w.rnd.IntN(20) {
		w.advance(w.gap())
		w.act()
		w.settle()
	}
	if w.ledger != nil {
		w.ledger.fail(nil, nil)
	}
	for deadline := w.abs + time.Duration(len(w.waiting)+10)*3*time.Minute; len(w.waiting) > 0; {
		if w.abs > deadline {
			require.FailNow(w.t, "somebody waits forever", "seed %d", w.seed)
		}
		due := w.Boot() + time.Minute
		for _, waits := range w.waiting {
			due = min(due, waits.at)
		}
		w.advance(max(pollEvery, due-w.Boot()))
		w.settle()
	}
	w.check("left", w.left)
	w.check("counted", w.counted)
}

func (w *world) gap() time.Duration {
	switch w.rnd.IntN(4) {
	case 0:
		return 0
	case 1:
		return time.Duration(w.rnd.Int64N(int64(40 * time.Second)))
	default:
		return time.Duration(w.rnd.Int64N(int64(4 * time.Second)))
	}
}

// advance lets time go by, with every flight landing in time.
func (w *world) advance(d time.Duration) {
	until := w.abs + d
	for {
		next := slices.IndexFunc(w.flights, func(f *flight) bool { return f.end <= until })
		if next < 0 {
			w.abs = until
			return
		}
		f := w.flights[next]
		w.flights = slices.Delete(w.flights, next, next+1)
		w.abs = max(w.abs, f.end)
		f.budget.settle(f.id, f.left, f.resp)
		w.settle()
	}
}

// act does one random thing.
func (w *world) act() {
	b := w.budgets[w.rnd.IntN(len(w.budgets))]
	switch n := w.rnd.IntN(100); {
	case n < 70:
		for range 1 + w.rnd.IntN(3) {
			w.join(b)
		}
	case n < 78:
		if len(w.waiting) > 0 {
			i := w.rnd.IntN(len(w.waiting))
			w.waiting[i].budget.leave(w.waiting[i].ticket)
			w.waiting = slices.Delete(w.waiting, i, i+1)
		}
	case n < 84: // the machine sleeps
		w.abs += time.Duration(w.rnd.Int64N(int64(2 * time.Minute)))
	case n < 88:
		w.skew -= time.Duration(w.rnd.Int64N(int64(time.Hour)))
	case n < 94 && w.faulty:
		w.ledger.fail([]error{nil, syscall.EIO}[w.rnd.IntN(2)], []error{nil, syscall.ENOSPC}[w.rnd.IntN(2)])
	case n < 97 && w.ledger != nil && !w.faulty:
		w.crash(w.rnd.IntN(len(w.budgets)))
	case w.ledger != nil && !w.faulty:
		w.reboot()
	}
}

func (w *world) join(b *Budget) {
	t := newTicket(upstream.NewDeparture(upstream.Class(w.rnd.IntN(3)), fmt.Sprint(w.rnd.IntN(3)), upstream.DepartureHooks{
		MayTakeLast: func() bool { return w.rnd.IntN(2) == 0 },
	}))
	if w.rnd.IntN(10) == 0 {
		slot, err := b.acquireNow(t)
		if err == nil {
			w.depart(b, slot)
		}
		return
	}
	w.waiting = append(w.waiting, waiter{t, b})
	b.do(func() {
		b.queue.add(t)
		b.dispatch()
	})
}

// settle does what waiters do when they wake: serve the queue, and leave.
func (w *world) settle() {
	for _, b := range w.budgets {
		if b.queue.size > 0 {
			b.do(b.dispatch)
		}
	}
	w.waiting = slices.DeleteFunc(w.waiting, func(waits waiter) bool {
		if waits.slot == "" {
			return false
		}
		w.depart(waits.budget, waits.slot)
		return true
	})
}

func (w *world) depart(b *Budget, slot string) {
	w.left = append(w.left, w.abs)
	f := &flight{budget: b, id: slot, left: w.Boot(), end: w.abs + time.Duration(w.rnd.Int64N(int64(time.Second)))}
	counted := w.abs
	switch w.rnd.IntN(4) {
	case 0: // given up, and counted up to 30 s after it left
		f.end = w.abs + time.Duration(w.rnd.Int64N(int64(40*time.Second)))
		counted += time.Duration(w.rnd.Int64N(int64(30 * time.Second)))
	case 1: // answered late
		f.end = w.abs + time.Duration(w.rnd.Int64N(int64(30*time.Second)))
		f.resp = w.respond()
		counted += time.Duration(w.rnd.Int64N(int64(f.end-w.abs) + 1))
	default:
		f.resp = w.respond()
		counted += time.Duration(w.rnd.Int64N(int64(f.end-w.abs) + 1))
	}
	w.counted = append(w.counted, counted)
	w.flights = append(w.flights, f)
}

func (w *world) respond() *http.Response {
	switch w.rnd.IntN(8) {
	case 0:
		return respond(429, fmt.Sprintf("Retry-After: %d", w.rnd.IntN(90)))
	case 1, 2, 3:
		return respond(200, rate("20", fmt.Sprint(w.rnd.IntN(21)), fmt.Sprint(w.rnd.IntN(61)))...)
	}
	return respond(200)
}

// crash replaces an instance by a new one; what it had under way is lost.
func (w *world) crash(i int) {
	dead := w.budgets[i]
	w.flights = slices.DeleteFunc(w.flights, func(f *flight) bool { return f.budget == dead })
	w.waiting = slices.DeleteFunc(w.waiting, func(waits waiter) bool { return waits.budget == dead })
	w.budgets[i] = w.open()
}

func (w *world) reboot() {
	w.booted = w.abs - time.Second
	w.boots++
	for i := range w.budgets {
		w.crash(i)
	}
}

// check is the oracle: no window ever holds more than the limit.
func (w *world) check(what string, times []time.Duration) {
	w.t.Helper()
	slices.Sort(times)
	l := standard(w.t)
	for i := w.limits.Limit; i < len(times); i++ {
		between := times[i] - times[i-w.limits.Limit]
		require.GreaterOrEqual(w.t, between, l.hold(), "seed %d: %d %s within %s", w.seed, w.limits.Limit+1, what, between)
	}
}

func TestNeverMoreThanTheLimitOnTheWire(t *testing.T) {
	// The same through RoundTrip, with all its goroutines, in virtual time.
	seed, count := seedOf(t)
	t.Logf("seeds from %d", seed)
	for i := range max(1, count/100) {
		seed := seed + uint64(i)
		o := Options{Path: t.TempDir() + "/ledger"}
		inBubble(t, o, func(t *testing.T, r *rig) {
			rnd := rand.New(rand.NewPCG(seed, 2))
			r.vault.answer = randomAnswers(seed)
			var trips []*trip
			for range 60 {
				time.Sleep(time.Duration(rnd.Int64N(int64(4 * time.Second))))
				if rnd.IntN(12) == 0 {
					for _, trip := range trips {
						if trip.dep.Attempts() == 0 {
							trip.cancel() // who waits in a process that is killed never leaves
						}
					}
					synctest.Wait()
					killed(r.budget)
					r.budget = r.open(o)
				}
				for range rnd.IntN(4) {
					trips = append(trips, r.ask(request{class: upstream.Class(rnd.IntN(3)), timeout: time.Duration(1 + rnd.Int64N(int64(2*time.Minute)))}))
				}
			}
			time.Sleep(5 * time.Minute)
			synctest.Wait()
			for _, trip := range trips {
				require.True(t, trip.ended(), "seed %d: nobody answered", seed)
			}
			left := r.vault.left
			for i := 20; i < len(left); i++ {
				require.GreaterOrEqual(t, left[i]-left[i-20], 61*time.Second, "seed %d", seed)
			}
		})
	}
}

// randomAnswers answers after up to a second, or not at all for ten.
func randomAnswers(seed uint64) func(context.Context, int) (*http.Response, error) {
	return func(ctx context.Context, n int) (*http.Response, error) {
		rnd := rand.New(rand.NewPCG(seed, uint64(n)))
		if rnd.IntN(5) == 0 {
			ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
			defer cancel()
			return hang(ctx, n)
		}
		time.Sleep(time.Duration(rnd.Int64N(int64(time.Second))))
		if rnd.IntN(20) == 0 {
			return respond(429, "Retry-After: 7"), nil
		}
		return respond(200), nil
	}
}

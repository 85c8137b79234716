package budget

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/grantexd/grantexd/upstream"
)

func TestWindowSlides(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, r *rig) {
		last := func() bool { return true }
		for i := range 20 {
			r.until(time.Duration(i) * time.Second)
			require.Equal(t, r.now(), r.leave(request{class: upstream.ClassMiss, mayTakeLast: last}), "departure %d", i)
		}
		// Each of the next comes 61 s after the one whose slot it takes.
		for i := range 20 {
			trip := r.ask(request{class: upstream.ClassMiss, mayTakeLast: last})
			synctest.Wait()
			require.Equal(t, 20, r.vault.seen()-i)
			r.until(time.Duration(i)*time.Second + 61*time.Second - 1)
			require.False(t, trip.ended(), "a nanosecond early")
			r.until(time.Duration(i)*time.Second + 61*time.Second)
			require.True(t, trip.ended())
			require.Equal(t, r.now(), trip.left)
		}
	})
}

// leave sends a request that must leave and end at once, and returns when.
func (r *rig) leave(q request) time.Duration {
	r.t.Helper()
	trip := r.ask(q)
	synctest.Wait()
	require.True(r.t, trip.ended())
	require.NoError(r.t, trip.err)
	return trip.left
}

func TestNoSecondBurst(t *testing.T) {
	// A token bucket of 20 a minute lets 39 through here.
	inBubble(t, Options{}, func(t *testing.T, r *rig) {
		r.until(59 * time.Second)
		trips := r.asks(20, upstream.ClassCheck)
		r.until(61 * time.Second)
		trips = append(trips, r.asks(20, upstream.ClassCheck)...)
		r.until(120*time.Second - 1)
		require.Equal(t, 20, r.vault.seen())
		r.until(120 * time.Second)
		require.Equal(t, 40, r.vault.seen())
		for _, trip := range trips {
			require.True(t, trip.ended())
		}
	})
}

func TestSlotIsHeld(t *testing.T) {
	after := func(d time.Duration, resp *http.Response, err error) func(context.Context, int) (*http.Response, error) {
		return func(context.Context, int) (*http.Response, error) {
			time.Sleep(d)
			return resp, err
		}
	}
	tests := []struct {
		name   string
		answer func(context.Context, int) (*http.Response, error)
		held   time.Duration // since it left
	}{
		{"answered at once", after(0, respond(200), nil), 61 * time.Second},
		{"an error is an answer", after(0, respond(500), nil), 61 * time.Second},
		{"answered after 20 s", after(20*time.Second, respond(200), nil), 81 * time.Second},
		{"answered after 5 min", after(5*time.Minute, respond(200), nil), 361 * time.Second},
		{"reset at once: it may be counted 30 s late", after(0, nil, errReset), 91 * time.Second},
		{"given up after 10 s", after(10*time.Second, nil, errReset), 91 * time.Second},
		{"given up after 30 s", after(30*time.Second, nil, errReset), 91 * time.Second},
		{"given up after 40 s", after(40*time.Second, nil, errReset), 101 * time.Second},
	}
	for _, tt := range tests {
		for _, ledger := range []string{"", "ledger"} {
			t.Run(tt.name+" "+ledger, func(t *testing.T) {
				o := Options{Limit: 1}
				if ledger != "" {
					o.Path = t.TempDir() + "/" + ledger
				}
				inBubble(t, o, func(t *testing.T, r *rig) {
					r.vault.answer = tt.answer
					r.ask(request{})
					synctest.Wait()
					next := r.ask(request{})
					r.until(tt.held - 1)
					require.Equal(t, -1*time.Nanosecond, next.left)
					r.until(tt.held)
					require.Equal(t, tt.held, next.left)
					r.until(time.Hour)
				})
			})
		}
	}
}

func TestSlowHook(t *testing.T) {
	// What is given up is counted from when it really left.
	inBubble(t, Options{Limit: 1}, func(t *testing.T, r *rig) {
		r.vault.answer = func(context.Context, int) (*http.Response, error) { return nil, errReset }
		dep := upstream.NewDeparture(upstream.ClassMiss, "", upstream.DepartureHooks{
			Departed: func() { time.Sleep(5 * time.Second) },
		})
		_, err := roundTrip(upstream.WithDeparture(t.Context(), dep), r.budget.Transport(r.vault))
		require.ErrorIs(t, err, errReset)
		require.Equal(t, 5*time.Second, r.now())
		require.Equal(t, 91*time.Second, r.budget.Status().NextSlotIn)
	})
}

func TestOnlyExchangesCount(t *testing.T) {
	tests := []struct {
		path   string
		counts bool
	}{
		{"/v1/vault/credentials/exchange", true},
		{"/behind/a/proxy/v1/vault/credentials/exchange", true},
		{"/v1/vault/credentials", false},
		{"/v1/vault/credentials/cred_1", false},
		{"/v1/vault/credentials/exchange/", false},
		{"/health", false},
		{"/", false},
	}
	for _, tt := range tests {
		t.Run(tt.path, func(t *testing.T) {
			inBubble(t, Options{}, func(t *testing.T, r *rig) {
				req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://vault.example"+tt.path, nil)
				require.NoError(t, err)
				resp, err := r.budget.Transport(r.vault).RoundTrip(req)
				require.NoError(t, err)
				require.NoError(t, resp.Body.Close())
				require.Equal(t, 1, r.vault.seen())
				require.Equal(t, map[bool]int{true: 1}[tt.counts], r.budget.Status().Used)
			})
		})
	}
}

// closeCounter is a body that counts how often it was closed.
type closeCounter struct {
	io.Reader
	closed int
}

func (c *closeCounter) Close() error {
	c.closed++
	return nil
}

func TestBodyIsClosedWithoutASlot(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, r *rig) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		body := &closeCounter{Reader: strings.NewReader("{}")}
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://vault.example"+upstream.PathExchange, body)
		require.NoError(t, err)
		_, err = r.budget.Transport(r.vault).RoundTrip(req)
		require.ErrorIs(t, err, context.Canceled)
		require.Equal(t, 1, body.closed)
		require.Zero(t, r.vault.seen())
		require.Zero(t, r.budget.Status().Used)
	})
}

func TestPanicBelowDoesNotKeepTheSlot(t *testing.T) {
	inBubble(t, Options{Limit: 1}, func(t *testing.T, r *rig) {
		r.vault.answer = func(context.Context, int) (*http.Response, error) { panic("below") }
		require.PanicsWithValue(t, "below", func() { _, _ = roundTrip(t.Context(), r.budget.Transport(r.vault)) })
		require.Equal(t, 91*time.Second, r.budget.Status().NextSlotIn)
	})
}

type idler struct {
	http.RoundTripper
	closed bool
}

func (i *idler) CloseIdleConnections() { i.closed = true }

func TestCloseIdleConnectionsPassesThrough(t *testing.T) {
	b, err := New(Options{})
	require.NoError(t, err)
	below := &idler{}
	b.Transport(below).(interface{ CloseIdleConnections() }).CloseIdleConnections()
	require.True(t, below.closed)
	require.NotPanics(t, func() {
		b.Transport(&vault{}).(interface{ CloseIdleConnections() }).CloseIdleConnections()
	})
}

func TestSuspendedMachine(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, r *rig) {
		r.asks(20, upstream.ClassCheck)
		next := r.ask(request{class: upstream.ClassCheck})
		r.until(10 * time.Second)
		require.False(t, next.ended())
		// It sleeps past the release; timers have stopped meanwhile.
		r.clock.Suspend(2 * time.Minute)
		before := r.now()
		time.Sleep(pollEvery)
		synctest.Wait()
		require.True(t, next.ended())
		require.LessOrEqual(t, next.left, before+pollEvery)
	})
}

func TestWallClockDoesNotMatter(t *testing.T) {
	inBubble(t, Options{Path: t.TempDir() + "/ledger"}, func(t *testing.T, r *rig) {
		r.asks(20, upstream.ClassCheck)
		next := r.ask(request{class: upstream.ClassCheck})
		r.clock.Step(24 * time.Hour)
		r.until(61*time.Second - 1)
		require.False(t, next.ended())
		r.clock.Step(-48 * time.Hour)
		r.until(61 * time.Second)
		require.True(t, next.ended())
	})
}

func TestSetLimits(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, r *rig) {
		r.asks(20, upstream.ClassCheck)
		waiting := r.asks(3, upstream.ClassCheck)
		require.Error(t, r.budget.SetLimits(Limits{Limit: -1}))
		require.Equal(t, 20, r.budget.Status().Limit)

		require.NoError(t, r.budget.SetLimits(Limits{Limit: 22}))
		synctest.Wait()
		require.Equal(t, 22, r.vault.seen(), "more room is used at once")
		require.False(t, waiting[2].ended())

		require.NoError(t, r.budget.SetLimits(Limits{Limit: 5, Window: 2 * time.Minute}))
		synctest.Wait()
		s := r.budget.Status()
		require.Equal(t, 5, s.Limit)
		require.Equal(t, 2*time.Minute, s.Window)
		require.Zero(t, s.Free, "less than none is none")
		r.until(121*time.Second - 1)
		require.False(t, waiting[2].ended(), "the longer window is that of those before it, too")
		r.until(121 * time.Second)
		require.True(t, waiting[2].ended())

		require.NoError(t, r.budget.SetLimits(Limits{Limit: 1, Window: time.Second, Margin: time.Second}))
		late := r.ask(request{class: upstream.ClassCheck})
		r.until(242*time.Second - 1)
		require.False(t, late.ended(), "a shorter window does not undo what was promised")
		r.until(242 * time.Second)
		require.True(t, late.ended())
	})
}

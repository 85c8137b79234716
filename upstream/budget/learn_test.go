package budget

import (
	"context"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/grantexd/grantexd/upstream"
)

// say makes the vault answer every request so.
func (v *vault) say(status int, lines ...string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.answer = func(context.Context, int) (*http.Response, error) { return respond(status, lines...), nil }
}

func TestAnotherSpender(t *testing.T) {
	inBubble(t, Options{Path: t.TempDir() + "/ledger"}, func(t *testing.T, r *rig) {
		r.vault.say(200, rate("20", "3", "40")...)
		r.leave(request{class: upstream.ClassCheck})
		s := r.budget.Status()
		require.Equal(t, 16, s.Others, "of 20, one is ours and three remain")
		require.Equal(t, 3, s.Free)
		require.Zero(t, s.BlockedFor)

		// Three more leave, and nothing is heard of them.
		r.vault.answer = func(context.Context, int) (*http.Response, error) { return nil, errReset }
		trips := r.asks(4, upstream.ClassCheck)
		require.True(t, trips[2].ended())
		require.Equal(t, []time.Duration{40 * time.Second}, trips[3].delays)
		r.until(40*time.Second - 1)
		require.False(t, trips[3].ended())
		r.until(40 * time.Second)
		require.True(t, trips[3].ended())
		require.Zero(t, r.budget.Status().Others)
	})
}

func TestNothingRemains(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, r *rig) {
		r.vault.say(200, rate("20", "0", "40")...)
		r.leave(request{class: upstream.ClassCheck})
		require.Equal(t, 40*time.Second, r.budget.Status().BlockedFor)
		next := r.ask(request{class: upstream.ClassCheck})
		r.until(40*time.Second - 1)
		require.False(t, next.ended())
		r.until(40 * time.Second)
		require.True(t, next.ended())
	})
}

func TestLessonOutlivesOurWindow(t *testing.T) {
	// The vault's window may be longer than ours: what left in it still counts
	// against what remains, even after it has left our own.
	inBubble(t, Options{Limit: 2}, func(t *testing.T, r *rig) {
		r.vault.say(200, rate("100", "3", "300")...)
		r.leave(request{class: upstream.ClassCheck})
		r.vault.say(200)
		for i := range 3 {
			r.until(time.Duration(i+1) * 61 * time.Second)
			r.leave(request{class: upstream.ClassCheck})
		}
		r.until(5*61*time.Second - 6*time.Second)
		late := r.ask(request{class: upstream.ClassCheck})
		synctest.Wait()
		require.Equal(t, []time.Duration{time.Second}, late.delays)
		r.until(300 * time.Second)
		require.True(t, late.ended())
	})
}

func TestAnswersOvertakeEachOther(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, r *rig) {
		// The first request is answered last, with what was true before.
		r.vault.answer = func(_ context.Context, n int) (*http.Response, error) {
			if n == 0 {
				time.Sleep(5 * time.Second)
				return respond(200, rate("20", "19", "60")...), nil
			}
			return respond(200, rate("20", "2", "50")...), nil
		}
		first := r.ask(request{class: upstream.ClassCheck})
		synctest.Wait()
		r.leave(request{class: upstream.ClassCheck})
		require.Equal(t, 2, r.budget.Status().Free)
		r.until(5 * time.Second)
		require.True(t, first.ended())
		require.Equal(t, 2, r.budget.Status().Free, "the older answer is not used")

		// And the other way round: what is new replaces what is old.
		r.vault.say(200, rate("20", "10", "45")...)
		r.leave(request{class: upstream.ClassCheck})
		require.Equal(t, 10, r.budget.Status().Free)
	})
}

func TestVaultsLimitHigherThanOurs(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, r *rig) {
		r.vault.say(200, rate("5000", "4999", "3600")...)
		r.leave(request{class: upstream.ClassCheck})
		require.Equal(t, Status{Limit: 20, Window: time.Minute, Used: 1, Free: 19}, r.budget.Status())
	})
}

func TestTooManyRequests(t *testing.T) {
	tests := []struct {
		name    string
		headers []string
		blocked time.Duration
	}{
		{"Retry-After", []string{"Retry-After: 40"}, 40 * time.Second},
		{"Retry-After and headers", append(rate("20", "0", "50"), "Retry-After: 40"), 50 * time.Second},
		{"the reset", rate("20", "0", "50"), 50 * time.Second},
		{"the reset, though some remain", rate("20", "7", "50"), 50 * time.Second},
		{"a date", []string{"Date: Sat, 21 Nov 2026 16:00:00 GMT", "Retry-After: Sat, 21 Nov 2026 16:00:25 GMT"}, 25 * time.Second},
		{"nothing", nil, time.Minute},
		{"garbage", []string{"Retry-After: soon"}, time.Minute},
		{"two of them", []string{"Retry-After: 1", "Retry-After: 2"}, time.Minute},
		{"an hour", []string{"Retry-After: 3600"}, 10 * time.Minute},
		{"ten minutes", []string{"Retry-After: 600"}, 10 * time.Minute},
		{"a second less", []string{"Retry-After: 599"}, 599 * time.Second},
		{"a reset in a day", rate("20", "0", "86400"), 10 * time.Minute},
		{"no time", []string{"Retry-After: 0"}, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, Options{}, func(t *testing.T, r *rig) {
				r.vault.say(429, tt.headers...)
				r.leave(request{class: upstream.ClassCheck})
				require.Equal(t, tt.blocked, r.budget.Status().BlockedFor)
				require.Equal(t, tt.blocked, r.budget.Status().NextSlotIn)
				r.vault.say(200)
				r.until(time.Second)
				next := r.ask(request{class: upstream.ClassCheck})
				synctest.Wait()
				if tt.blocked == 0 {
					require.True(t, next.ended())
					return
				}
				require.Equal(t, []time.Duration{tt.blocked - time.Second}, next.delays)
				r.until(tt.blocked - 1)
				require.False(t, next.ended())
				r.until(tt.blocked)
				require.True(t, next.ended())
			})
		})
	}
}

func TestQueueKeepsToWhatRemains(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, r *rig) {
		r.vault.say(429, append(rate("20", "1", "40"), "Retry-After: 10")...)
		r.leave(request{class: upstream.ClassCheck})
		r.vault.say(200)
		trips := r.asks(3, upstream.ClassCheck)
		require.Equal(t, []time.Duration{10 * time.Second}, trips[0].delays)
		require.Equal(t, []time.Duration{40 * time.Second}, trips[1].delays)
		require.Equal(t, []time.Duration{40 * time.Second}, trips[2].delays)
		r.until(40 * time.Second)
		require.Equal(t, 10*time.Second, trips[0].left)
		require.Equal(t, 40*time.Second, trips[2].left)
	})
}

func TestGarbageHeadersTeachNothing(t *testing.T) {
	for _, lines := range [][]string{
		rate("20", "-1", "40"), rate("20", "21", "40"), rate("0", "0", "40"), rate("x", "0", "40"),
		rate("20", "0", "1795277301"), {"x-ratelimit-remaining: 0"}, append(rate("20", "0", "40"), "x-ratelimit-remaining: 1"),
	} {
		inBubble(t, Options{}, func(t *testing.T, r *rig) {
			r.vault.say(200, lines...)
			r.leave(request{class: upstream.ClassCheck})
			require.Equal(t, 19, r.budget.Status().Free, "%v", lines)
		})
	}
}

func TestOldAnswerOf429StillBlocks(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, r *rig) {
		r.vault.answer = func(_ context.Context, n int) (*http.Response, error) {
			if n == 0 {
				time.Sleep(time.Second)
				return respond(429, "Retry-After: 30"), nil
			}
			return respond(200, rate("20", "5", "60")...), nil
		}
		r.ask(request{class: upstream.ClassCheck})
		synctest.Wait()
		r.leave(request{class: upstream.ClassCheck})
		r.until(time.Second)
		require.Equal(t, 30*time.Second, r.budget.Status().BlockedFor)
	})
}

func TestColdStartOfTwenty(t *testing.T) {
	// All at once against a vault that counts as the real one does.
	inBubble(t, Options{Path: t.TempDir() + "/ledger"}, func(t *testing.T, r *rig) {
		var mu sync.Mutex
		counted := 0
		r.vault.answer = func(_ context.Context, n int) (*http.Response, error) {
			time.Sleep(time.Duration(50+(n*37)%100) * time.Millisecond) // in another order
			mu.Lock()
			defer mu.Unlock()
			counted++
			return respond(200, rate("20", string(rune('0'+(20-counted)/10))+string(rune('0'+(20-counted)%10)), "60")...), nil
		}
		var trips []*trip
		for range 20 {
			trips = append(trips, r.ask(request{class: upstream.ClassMiss, mayTakeLast: func() bool { return true }}))
		}
		r.until(time.Second)
		for _, trip := range trips {
			require.True(t, trip.ended())
			require.NoError(t, trip.err)
			require.Empty(t, trip.delays)
			require.Zero(t, trip.left)
		}
		require.Zero(t, r.budget.Status().Others)
	})
}

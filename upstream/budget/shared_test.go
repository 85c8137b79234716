package budget

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/grantexd/grantexd/upstream"
	"github.com/grantexd/grantexd/upstream/clock"
)

func contextOf(t *testing.T, d time.Duration) (context.Context, context.CancelFunc) {
	t.Helper()
	return context.WithTimeout(t.Context(), d)
}

// killed makes the budget's process disappear: it never writes again.
func killed(b *Budget) { b.do(func() { b.ledger = nil }) }

func TestCrash(t *testing.T) {
	o := Options{Path: filepath.Join(t.TempDir(), "ledger"), Limit: 2}
	inBubble(t, o, func(t *testing.T, r *rig) {
		r.leave(request{class: upstream.ClassCheck})
		r.vault.answer = hang
		r.until(time.Second)
		flying := r.ask(request{class: upstream.ClassCheck})
		synctest.Wait()
		killed(r.budget)
		flying.cancel()

		r.budget = r.open(o)
		r.vault.answer = nil
		require.Equal(t, 2, r.budget.Status().Used)
		next := r.asks(2, upstream.ClassCheck)
		require.Equal(t, 60*time.Second, next[0].delays[0])
		r.until(61 * time.Second)
		require.True(t, next[0].ended(), "61 s after what was answered")
		r.until(92*time.Second - 1)
		require.False(t, next[1].ended(), "what was in flight may be counted 30 s late")
		r.until(92 * time.Second)
		require.True(t, next[1].ended())
	})
}

func TestCrashLoop(t *testing.T) {
	o := Options{Path: filepath.Join(t.TempDir(), "ledger")}
	inBubble(t, o, func(t *testing.T, r *rig) {
		for range 30 {
			killed(r.budget)
			r.budget = r.open(o)
			for range 5 {
				r.ask(request{class: upstream.ClassCheck, timeout: 500 * time.Millisecond})
			}
			time.Sleep(time.Second)
		}
		require.Equal(t, 20, r.vault.seen())
		require.Equal(t, 20, r.budget.Status().Used)
		require.Empty(t, r.log.messages, "a crash is nothing special")
	})
}

func TestTwoInstances(t *testing.T) {
	o := Options{Path: filepath.Join(t.TempDir(), "ledger")}
	inBubble(t, o, func(t *testing.T, r *rig) {
		other := r.open(o)
		var trips []*trip
		for i := range 30 {
			q := request{class: upstream.ClassCheck, budget: other}
			if i%2 == 0 {
				q.budget = r.budget
			}
			trips = append(trips, r.ask(q))
		}
		synctest.Wait()
		require.Equal(t, 20, r.vault.seen())
		require.Equal(t, 20, r.budget.Status().Used)
		require.Equal(t, 20, other.Status().Used)
		r.until(61 * time.Second)
		for _, trip := range trips {
			require.True(t, trip.ended())
		}
		require.Equal(t, 30, r.vault.seen())
	})
}

func TestInstancesLearnFromEachOther(t *testing.T) {
	o := Options{Path: filepath.Join(t.TempDir(), "ledger")}
	inBubble(t, o, func(t *testing.T, r *rig) {
		other := r.open(o)
		r.vault.say(200, rate("20", "4", "40")...)
		r.leave(request{class: upstream.ClassCheck})
		s := other.Status()
		require.Equal(t, 4, s.Free)
		require.Equal(t, 15, s.Others)

		r.vault.say(429, "Retry-After: 30")
		r.leave(request{class: upstream.ClassCheck, budget: other})
		require.Equal(t, 30*time.Second, r.budget.Status().BlockedFor)
		waits := r.ask(request{class: upstream.ClassCheck})
		r.until(30*time.Second - 1)
		require.False(t, waits.ended())
		r.until(30 * time.Second)
		require.True(t, waits.ended())
	})
}

func TestInstanceNoticesThatAnotherWasAnswered(t *testing.T) {
	o := Options{Path: filepath.Join(t.TempDir(), "ledger"), Limit: 1}
	inBubble(t, o, func(t *testing.T, r *rig) {
		other := r.open(o)
		r.vault.answer = hang
		flying := r.ask(request{class: upstream.ClassCheck, budget: other})
		synctest.Wait()
		r.vault.answer = nil
		waits := r.ask(request{class: upstream.ClassCheck})
		synctest.Wait()
		require.Equal(t, []time.Duration{91 * time.Second}, waits.delays)
		r.until(5 * time.Second)
		flying.cancel()
		r.until(6 * time.Second)
		require.Len(t, waits.delays, 1, "given up: it stays so")
		r.until(91 * time.Second)
		require.True(t, waits.ended())

		r.vault.answer = hang
		r.ask(request{class: upstream.ClassCheck, budget: other, timeout: 2 * time.Minute})
		r.until(10 * time.Minute)
	})
}

func TestLedgerRemovedMeanwhile(t *testing.T) {
	o := Options{Path: filepath.Join(t.TempDir(), "ledger")}
	inBubble(t, o, func(t *testing.T, r *rig) {
		other := r.open(o)
		r.leave(request{class: upstream.ClassCheck})
		r.leave(request{class: upstream.ClassCheck, budget: other})
		require.NoError(t, os.Remove(o.Path))
		require.Equal(t, 2, other.Status().Used, "what was known is written again")
		require.Equal(t, 2, r.budget.Status().Used)
		require.Equal(t, 2, r.open(o).Status().Used)
	})
}

func TestLedgerOverwrittenMeanwhile(t *testing.T) {
	o := Options{Path: filepath.Join(t.TempDir(), "ledger")}
	inBubble(t, o, func(t *testing.T, r *rig) {
		r.leave(request{class: upstream.ClassCheck})
		content, err := encode(&window{}, moment{bootID: "boot-1", boot: r.clock.Boot(), wall: r.clock.Now()})
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(o.Path, content, 0o600))
		require.Equal(t, 1, r.budget.Status().Used)
		require.Equal(t, 1, r.open(o).Status().Used, "ours are back in it")
	})
}

func TestUnreadableLedgerCountsAsFull(t *testing.T) {
	for name, content := range map[string]string{
		"empty":           "",
		"garbage":         "garbage",
		"another version": "grantexd-ledger 2 0 00000000\n",
		"huge":            string(make([]byte, maxRecord+1)),
	} {
		t.Run(name, func(t *testing.T) {
			o := Options{Path: filepath.Join(t.TempDir(), "ledger")}
			require.NoError(t, os.WriteFile(o.Path, []byte(content), 0o600))
			inBubble(t, o, func(t *testing.T, r *rig) {
				require.Equal(t, []string{logFull}, r.log.messages)
				require.Equal(t, 61*time.Second, r.budget.Status().NextSlotIn)
				r.until(10 * time.Second)
				killed(r.budget)
				r.budget = r.open(o)
				require.Equal(t, 51*time.Second, r.budget.Status().NextSlotIn, "since it was first seen, restart or not")
				require.Len(t, r.log.messages, 1, "it is a good one now")
				r.until(61 * time.Second)
				require.Equal(t, 20, r.budget.Status().Free)
			})
		})
	}
}

// rebooted is a clock whose machine was booted at since.
type rebooted struct {
	*clock.Fake
	since time.Duration
}

func (c rebooted) Boot() time.Duration { return c.Fake.Boot() - c.since }

func TestReboot(t *testing.T) {
	for _, bootID := range []string{"boot-2", ""} {
		t.Run("to "+bootID, func(t *testing.T) {
			o := Options{Path: filepath.Join(t.TempDir(), "ledger"), Limit: 2}
			inBubble(t, o, func(t *testing.T, r *rig) {
				r.leave(request{class: upstream.ClassCheck})
				r.until(10 * time.Second)
				r.leave(request{class: upstream.ClassCheck})
				killed(r.budget)

				r.until(61 * time.Second) // of the two, the first is over by now
				o.Clock = rebooted{r.clock, r.clock.Boot() - 5*time.Second}
				o.BootID = func() string { return bootID }
				b := r.open(o)
				require.Equal(t, 1, b.Status().Used)
				r.leave(request{class: upstream.ClassCheck, budget: b})
				require.Equal(t, 61*time.Second, b.Status().NextSlotIn, "as if just answered")
				r.until(91 * time.Second)
				require.Equal(t, 31*time.Second, b.Status().NextSlotIn)
				killed(b)
				require.Equal(t, 31*time.Second, r.open(o).Status().NextSlotIn, "not anew at each start")
			})
		})
	}
}

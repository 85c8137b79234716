package budget

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/grantexd/grantexd/upstream"
)

func TestClassesLeaveSomeFree(t *testing.T) {
	yes := func() bool { return true }
	tests := []struct {
		name    string
		request request
		leaves  int // of 20
	}{
		{"refreshes leave eight", request{class: upstream.ClassRefresh}, 12},
		{"misses leave one", request{class: upstream.ClassMiss}, 19},
		{"misses that may take the last", request{class: upstream.ClassMiss, mayTakeLast: yes}, 20},
		{"checks", request{class: upstream.ClassCheck}, 20},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, Options{}, func(t *testing.T, r *rig) {
				var trips []*trip
				for range 25 {
					trips = append(trips, r.ask(tt.request))
				}
				synctest.Wait()
				require.Equal(t, tt.leaves, r.vault.seen())
				require.Equal(t, 25-tt.leaves, r.budget.Status().Waiting)
				r.until(3 * time.Minute)
				for _, trip := range trips {
					require.True(t, trip.ended())
				}
			})
		})
	}
}

func TestOrder(t *testing.T) {
	inBubble(t, Options{Limit: 1}, func(t *testing.T, r *rig) {
		r.leave(request{class: upstream.ClassCheck})
		var left []string
		trips := map[string]*trip{}
		for _, q := range []struct {
			name  string
			class upstream.Class
		}{
			{"ra1", upstream.ClassRefresh}, {"rb1", upstream.ClassRefresh},
			{"ma1", upstream.ClassMiss}, {"ma2", upstream.ClassMiss}, {"ma3", upstream.ClassMiss},
			{"mb1", upstream.ClassMiss}, {"mc1", upstream.ClassMiss}, {"ca1", upstream.ClassCheck},
		} {
			trips[q.name] = r.ask(request{class: q.class, caller: q.name[1:2]})
			synctest.Wait()
		}
		for i := range 9 {
			r.until(time.Duration(i) * 61 * time.Second)
			for name, trip := range trips {
				if trip.ended() {
					left = append(left, name)
					delete(trips, name)
				}
			}
		}
		require.Equal(t, []string{"ca1", "ma1", "mb1", "mc1", "ma2", "ma3", "ra1", "rb1"}, left)
	})
}

func TestAnotherCallerIsNotDelayedByAThousand(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, r *rig) {
		for range 1000 {
			r.ask(request{class: upstream.ClassMiss, caller: "greedy", timeout: 2 * time.Minute})
		}
		synctest.Wait()
		r.until(time.Second)
		modest := r.ask(request{class: upstream.ClassMiss, caller: "modest"})
		check := r.ask(request{class: upstream.ClassCheck})
		synctest.Wait()
		require.True(t, check.ended(), "the last slot was kept for it")
		r.until(61 * time.Second)
		require.True(t, modest.ended(), "it is among the first of the next window")
		r.until(3 * time.Minute)
		require.Zero(t, r.budget.Status().Waiting)
	})
}

func TestBlockedMissDoesNotBlockOneThatMay(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, r *rig) {
		r.asks(19, upstream.ClassCheck)
		waits := r.ask(request{class: upstream.ClassMiss})
		synctest.Wait()
		may := r.ask(request{class: upstream.ClassMiss, mayTakeLast: func() bool { return true }})
		synctest.Wait()
		require.True(t, may.ended())
		require.False(t, waits.ended())
		r.until(2 * time.Minute)
	})
}

func TestMayTakeLastIsAskedAgain(t *testing.T) {
	inBubble(t, Options{Path: t.TempDir() + "/ledger"}, func(t *testing.T, r *rig) {
		r.asks(19, upstream.ClassCheck)
		for range 5 {
			r.ask(request{class: upstream.ClassMiss, timeout: 10 * time.Second})
		}
		var may atomic.Bool
		trip := r.ask(request{class: upstream.ClassMiss, mayTakeLast: may.Load})
		r.until(5 * time.Second)
		require.False(t, trip.ended())
		may.Store(true)
		r.until(5*time.Second + pollEvery)
		require.True(t, trip.ended())
	})
}

func TestRaise(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, r *rig) {
		r.asks(12, upstream.ClassCheck)
		first := r.ask(request{class: upstream.ClassRefresh})
		second := r.ask(request{class: upstream.ClassRefresh})
		synctest.Wait()
		require.False(t, second.ended())
		second.dep.Raise(upstream.ClassMiss, "uid:1")
		synctest.Wait()
		require.True(t, second.ended(), "a miss may use the reserve")
		require.False(t, first.ended())
		r.until(2 * time.Minute)
	})
}

func TestRaiseIsToldOfInTime(t *testing.T) {
	// With 19 held a miss waits as long as a refresh for the first slot, but a
	// refresh needs eight more.
	inBubble(t, Options{}, func(t *testing.T, r *rig) {
		for i := range 19 {
			r.until(time.Duration(i) * time.Second)
			r.leave(request{class: upstream.ClassCheck})
		}
		trip := r.ask(request{class: upstream.ClassRefresh})
		synctest.Wait()
		trip.dep.Raise(upstream.ClassMiss, "uid:1")
		synctest.Wait()
		// Slots come back at 61 s, 62 s, … and it is 18 s now.
		require.Equal(t, []time.Duration{50 * time.Second, 43 * time.Second}, trip.delays)
		r.until(61 * time.Second)
		require.True(t, trip.ended())
	})
}

func TestCancelledInTheQueue(t *testing.T) {
	inBubble(t, Options{Path: t.TempDir() + "/ledger"}, func(t *testing.T, r *rig) {
		r.asks(20, upstream.ClassCheck)
		gone := r.ask(request{class: upstream.ClassMiss})
		late := r.ask(request{class: upstream.ClassMiss, timeout: 5 * time.Second})
		stays := r.ask(request{class: upstream.ClassMiss})
		synctest.Wait()
		require.Equal(t, 3, r.budget.Status().Waiting)
		gone.cancel()
		synctest.Wait()
		require.True(t, gone.ended())
		require.ErrorIs(t, gone.err, context.Canceled)
		r.until(5 * time.Second)
		require.True(t, late.ended())
		require.ErrorIs(t, late.err, context.DeadlineExceeded)
		s := r.budget.Status()
		require.Equal(t, 1, s.Waiting)
		require.Equal(t, 20, s.Used, "they cost nothing")
		r.until(61 * time.Second)
		require.True(t, stays.ended())
		require.NoError(t, stays.err)
		require.Equal(t, 21, r.vault.seen())
	})
}

func TestCancelledAsItIsServed(t *testing.T) {
	inBubble(t, Options{Limit: 1}, func(t *testing.T, r *rig) {
		l := &memoryLedger{}
		r.budget.on(l)
		ticket := newTicket(upstream.NewDeparture(upstream.ClassMiss, "", upstream.DepartureHooks{}))
		r.budget.do(func() {
			r.budget.queue.add(ticket)
			r.budget.dispatch()
		})
		require.NotEmpty(t, ticket.slot)
		require.Equal(t, 1, r.budget.Status().Used)
		waits := r.ask(request{class: upstream.ClassMiss})
		synctest.Wait()
		require.False(t, waits.ended())
		r.budget.leave(ticket)
		synctest.Wait()
		require.True(t, waits.ended(), "what was given back goes to the next at once")
		require.Equal(t, 1, r.open(Options{Limit: 1}).on(l).Status().Used, "in the ledger, too")
	})
}

func TestCancelledInFlightKeepsItsSlot(t *testing.T) {
	inBubble(t, Options{Limit: 1}, func(t *testing.T, r *rig) {
		r.vault.answer = hang
		trip := r.ask(request{})
		r.until(10 * time.Second)
		require.Equal(t, 61*time.Second, r.budget.Status().NextSlotIn, "if it is answered now")
		trip.cancel()
		synctest.Wait()
		require.True(t, trip.ended())
		require.Equal(t, 81*time.Second, r.budget.Status().NextSlotIn, "91 s after it left")
	})
}

func TestRetryDoesNotWait(t *testing.T) {
	inBubble(t, Options{Path: t.TempDir() + "/ledger"}, func(t *testing.T, r *rig) {
		r.asks(18, upstream.ClassCheck)
		r.until(10 * time.Second)
		trip := r.ask(request{class: upstream.ClassMiss})
		synctest.Wait()
		require.True(t, trip.ended())
		require.NoError(t, trip.err)
		waits := r.ask(request{class: upstream.ClassMiss, caller: "a"})
		synctest.Wait()
		require.Equal(t, []time.Duration{51 * time.Second}, waits.delays)

		r.send(trip, request{})
		synctest.Wait()
		require.True(t, trip.ended())
		var noSlot *upstream.NoSlotError
		require.ErrorAs(t, trip.err, &noSlot)
		require.Equal(t, 51*time.Second, noSlot.Wait)
		require.Empty(t, trip.delays)
		require.Equal(t, 1, trip.dep.Attempts())
		require.Equal(t, []time.Duration{51 * time.Second}, waits.delays, "nobody else hears of it")
		require.Equal(t, 1, r.budget.Status().Waiting)

		r.until(80 * time.Second)
		r.send(trip, request{})
		synctest.Wait()
		require.True(t, trip.ended())
		require.NoError(t, trip.err)
		require.Equal(t, 2, trip.dep.Attempts(), "it is a departure like any other")
		require.Equal(t, 21, r.vault.seen())
	})
}

func TestDelayed(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, r *rig) {
		for range 10 {
			r.leave(request{class: upstream.ClassCheck})
		}
		r.until(30 * time.Second)
		for range 10 {
			r.leave(request{class: upstream.ClassCheck})
		}
		ask := func(class upstream.Class, n int) (trips []*trip) {
			for range n {
				trips = append(trips, r.ask(request{class: class}))
				synctest.Wait()
			}
			return trips
		}
		misses := ask(upstream.ClassMiss, 9)
		for i, trip := range misses {
			require.Equal(t, []time.Duration{31 * time.Second}, trip.delays, "miss %d: the slots of the start, but the last", i)
		}
		tenth := ask(upstream.ClassMiss, 1)[0]
		require.Equal(t, []time.Duration{61 * time.Second}, tenth.delays, "the slots of 30 s")
		refreshes := ask(upstream.ClassRefresh, 2)
		require.Equal(t, []time.Duration{61 * time.Second}, refreshes[0].delays)
		require.Equal(t, []time.Duration{61 * time.Second}, refreshes[1].delays)

		r.until(40 * time.Second)
		for _, trip := range misses {
			require.Len(t, trip.delays, 1, "nothing has changed")
		}
		misses[0].cancel()
		synctest.Wait()
		require.Equal(t, []time.Duration{61 * time.Second, 21 * time.Second}, tenth.delays, "it moves up")
		check := ask(upstream.ClassCheck, 1)[0]
		require.Equal(t, []time.Duration{21 * time.Second}, check.delays)
		require.Equal(t, []time.Duration{61 * time.Second, 21 * time.Second, 51 * time.Second}, tenth.delays, "and down again: one slot stays kept for the next check")
		r.until(10 * time.Minute)
		require.Zero(t, r.budget.Status().Waiting)
	})
}

func TestDelayedIsWhatHappens(t *testing.T) {
	// Whatever waits leaves when it was told, if nothing else comes up.
	inBubble(t, Options{Path: t.TempDir() + "/ledger"}, func(t *testing.T, r *rig) {
		for i := range 20 {
			r.until(time.Duration(i) * 700 * time.Millisecond)
			r.leave(request{class: upstream.ClassCheck})
		}
		classes := []upstream.Class{upstream.ClassMiss, upstream.ClassRefresh, upstream.ClassMiss, upstream.ClassCheck}
		var trips []*trip
		for i := range 40 {
			trips = append(trips, r.ask(request{class: classes[i%4], caller: fmt.Sprint(i % 3)}))
			synctest.Wait()
		}
		asked := r.now()
		told := make([]time.Duration, len(trips))
		for i, trip := range trips {
			told[i] = asked + trip.delays[len(trip.delays)-1]
		}
		r.until(10 * time.Minute)
		for i, trip := range trips {
			require.Equal(t, told[i], trip.left, "trip %d", i)
		}
	})
}

func TestHooksMayCallBack(t *testing.T) {
	inBubble(t, Options{Limit: 1}, func(t *testing.T, r *rig) {
		r.leave(request{class: upstream.ClassCheck})
		var dep *upstream.Departure
		calls := 0
		dep = upstream.NewDeparture(upstream.ClassRefresh, "", upstream.DepartureHooks{
			Delayed: func(time.Duration) {
				calls++
				r.budget.Status()
				dep.Raise(upstream.ClassMiss, "a")
			},
			Departed:    func() { r.budget.Status() },
			MayTakeLast: func() bool { r.budget.Status(); return false },
		})
		_, err := roundTrip(upstream.WithDeparture(t.Context(), dep), r.budget.Transport(r.vault))
		require.NoError(t, err)
		require.Equal(t, 1, calls)
		require.Equal(t, 61*time.Second, r.now())
	})
}

func TestStatus(t *testing.T) {
	inBubble(t, Options{Limit: 3, Window: 10 * time.Second}, func(t *testing.T, r *rig) {
		require.Equal(t, Status{Limit: 3, Window: 10 * time.Second, Free: 3}, r.budget.Status())
		r.asks(2, upstream.ClassCheck)
		require.Equal(t, Status{Limit: 3, Window: 10 * time.Second, Used: 2, Free: 1}, r.budget.Status())
		r.until(4 * time.Second)
		r.asks(2, upstream.ClassCheck)
		require.Equal(t, Status{Limit: 3, Window: 10 * time.Second, Used: 3, Waiting: 1, NextSlotIn: 7 * time.Second}, r.budget.Status())
		r.until(11 * time.Second)
		require.Equal(t, Status{Limit: 3, Window: 10 * time.Second, Used: 2, Free: 1}, r.budget.Status())
	})
}

package daemon

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/grantexd/grantexd/daemon/broker"
	"github.com/grantexd/grantexd/daemon/grant"
)

// TestAnHourOfEverything lets honest and hostile callers read for an hour of
// virtual time with grant swaps, outages and foreign spenders: never more than 20
// departures in any 60 s, no leaked goroutine (the bubble would not end), and no
// request without an answer by its deadline.
func TestAnHourOfEverything(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSim(t)
		defer s.stop()
		s.vault.credential = func(grantToken, service string) (string, time.Time, bool) {
			return grantToken + service, s.vault.now().Add(10 * time.Minute), service < "t"
		}
		s.broker.SetGrant(simGrant("jwt-0", "grnt", 2*time.Hour))
		var callers sync.WaitGroup
		end := time.Now().Add(time.Hour)
		call := func(caller string, pause time.Duration, request func() broker.Request) {
			callers.Go(func() {
				for time.Now().Before(end) {
					r := request()
					r.Caller = caller
					began := time.Now()
					_, err := s.broker.Get(t.Context(), r)
					var e *broker.Error
					if err != nil && !errors.As(err, &e) {
						t.Errorf("an answer that is none: %v", err)
					}
					if took := time.Since(began); took > r.Wait {
						t.Errorf("%s waited %s, and would wait %s", caller, took, r.Wait)
					}
					time.Sleep(pause)
				}
			})
		}
		for i := range 8 {
			call(fmt.Sprint("uid:", i), time.Second, func() broker.Request {
				return broker.Request{Service: serviceName(rand.IntN(15)), Wait: 10 * time.Second}
			})
		}
		call("uid:100", 200*time.Millisecond, func() broker.Request {
			return broker.Request{Service: fmt.Sprint("zz-invented-", rand.Int()), Wait: 100 * time.Millisecond}
		})
		call("uid:101", 200*time.Millisecond, func() broker.Request {
			return broker.Request{Service: serviceName(rand.IntN(15)), Wait: time.Second, NoCache: true}
		})
		disturb(s, end)
		callers.Wait()
		synctest.Wait()
		s.requireNoProblems()
		require.Positive(t, s.vault.limited, "the foreign spender was met")
		require.Greater(t, s.vault.departed(), 300, "an hour in which nothing left proves nothing")
		t.Logf("%d departures, %d of them answered with 429", s.vault.departed(), s.vault.limited)
	})
}

// disturb changes grant, vault and limit every half minute until end.
func disturb(s *sim, end time.Time) {
	for n := 1; time.Now().Before(end); n++ {
		time.Sleep(30 * time.Second)
		switch n % 8 {
		case 1:
			s.broker.SetGrant(simGrant(fmt.Sprint("jwt-", n), "grnt", 2*time.Hour))
		case 2:
			s.vault.set(func() { s.vault.fault = func() (int, error) { return 503, nil } })
		case 3:
			s.vault.set(func() { s.vault.fault = func() (int, error) { return 0, errors.New("reset") } })
		case 4:
			s.vault.set(func() { s.vault.fault = nil })
		case 5:
			// Somebody else behind the same address spends all there is.
			s.vault.set(func() { s.vault.opened, s.vault.spent = s.vault.now(), 20 })
		case 7:
			s.vault.set(func() { s.vault.latency = 12 * time.Second })
		case 0:
			s.vault.set(func() { s.vault.latency = 50 * time.Millisecond })
			s.broker.SetGrant(grant.Snapshot{State: grant.Withdrawn})
			s.broker.SetGrant(simGrant(fmt.Sprint("jwt-", n), fmt.Sprint("grnt-", n), 2*time.Hour))
		}
	}
}

// TestPermanentFailureKeepsNoMemory lets 1,000 callers ask a vault that never
// recovers for an hour of virtual time: the heap must end where it began.
func TestPermanentFailureKeepsNoMemory(t *testing.T) {
	const slack = 2 << 20
	synctest.Test(t, func(t *testing.T) {
		s := newSim(t)
		defer s.stop()
		s.vault.credential = func(string, string) (string, time.Time, bool) { return "", time.Time{}, false }
		s.vault.fault = func() (int, error) { return 503, nil }
		s.broker.SetGrant(simGrant("jwt", "grnt", 2*time.Hour))
		round := func() {
			var callers sync.WaitGroup
			for i := range 1000 {
				callers.Go(func() {
					_, err := s.get(fmt.Sprint("name-", rand.Int()), fmt.Sprint("uid:", i), time.Second)
					if err == nil {
						t.Error("a credential came from nowhere")
					}
				})
			}
			callers.Wait()
		}
		round()
		before := heap()
		for range 60 {
			round()
			time.Sleep(time.Minute)
		}
		grown := int64(heap()) - int64(before)
		t.Logf("the heap grew by %d KiB", grown>>10)
		require.Less(t, grown, int64(slack))
	})
}

// heap is what is alive on the heap, in bytes.
func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

package daemon

import (
	"errors"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/grantexd/grantexd/daemon/broker"
)

// endless gives every service but the invented ones a token of that life, 0 for
// one without an end, which is renewed at each exchange.
func endless(s *sim, life time.Duration) {
	n := 0
	s.vault.credential = func(_, service string) (string, time.Time, bool) {
		n++
		expires := time.Time{}
		if life != 0 {
			expires = s.vault.now().Add(life)
		}
		return service + "/" + strconv.Itoa(n), expires, service < "t"
	}
}

// bubble runs a sim on the real budget in virtual time.
func bubble(t *testing.T, body func(s *sim)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := newSim(t)
		defer s.stop()
		body(s)
		synctest.Wait()
		s.requireNoProblems()
	})
}

// rateLimited requires that the read was refused for want of a slot, and returns
// in how long there is one.
func rateLimited(t *testing.T, err error) time.Duration {
	t.Helper()
	var e *broker.Error
	require.ErrorAs(t, err, &e)
	require.Equal(t, broker.KindRateLimited, e.Kind, e.Message)
	return e.RetryAfter
}

func TestAColdStartOfTwentyServices(t *testing.T) {
	bubble(t, func(s *sim) {
		endless(s, time.Hour)
		s.broker.SetGrant(simGrant("jwt", "grnt", 2*time.Hour))
		began := time.Now()
		var callers sync.WaitGroup
		for i := range 20 {
			callers.Go(func() {
				if _, err := s.get(serviceName(i), "uid:1000", 10*time.Second); err != nil {
					t.Error(err)
				}
			})
		}
		callers.Wait()
		require.Less(t, time.Since(began), time.Second, "none of them pauses")
		require.Equal(t, 20, s.vault.departed())

		// The twenty-first is told at once when there is a slot, and who waits
		// for that long gets it then.
		began = time.Now()
		_, err := s.get(serviceName(20), "uid:1000", 10*time.Second)
		wait := rateLimited(t, err)
		require.Zero(t, time.Since(began))
		require.InDelta(t, 61, wait.Seconds(), 1)
		_, err = s.get(serviceName(20), "uid:1000", wait+time.Second)
		require.NoError(t, err)
		require.InDelta(t, wait.Seconds(), time.Since(began).Seconds(), 1)
	})
}

// One uid invents names and forces exchanges as fast as it can. It costs four
// departures of either kind a minute, and neither another uid's first miss nor
// the refresh of what is read waits for it.
func TestAHostileCallerDelaysNobody(t *testing.T) {
	bubble(t, func(s *sim) {
		endless(s, 5*time.Minute)
		s.broker.SetGrant(simGrant("jwt", "grnt", 2*time.Hour))
		warm(s.t, s, 5)
		end := time.Now().Add(10 * time.Minute)
		var callers sync.WaitGroup
		for i := range 16 {
			callers.Go(func() {
				for n := 0; time.Now().Before(end); n++ {
					_, _ = s.get(fmt.Sprint("zz-invented-", i, "-", n), "uid:666", time.Second)
					_, _ = s.broker.Get(s.t.Context(), broker.Request{
						Service: serviceName(n % 5), Caller: "uid:666", Wait: time.Second, NoCache: true,
					})
					time.Sleep(500 * time.Millisecond)
				}
			})
		}
		for i := range 5 {
			callers.Go(func() {
				for n := 0; time.Now().Before(end); n++ {
					began := time.Now()
					if _, err := s.get(serviceName(i), "uid:1000", 10*time.Second); err != nil {
						t.Error(err)
					}
					if took := time.Since(began); took > s.vault.latency {
						t.Errorf("a read of a service in use took %s", took)
					}
					time.Sleep(time.Second)
				}
			})
		}
		for n := 10; time.Now().Before(end); n++ {
			time.Sleep(time.Minute)
			began := time.Now()
			_, err := s.get(serviceName(n), "uid:2000", 10*time.Second)
			require.NoError(t, err)
			require.Equal(t, s.vault.latency, time.Since(began), "a first miss takes one round trip")
		}
		callers.Wait()
		// Four invented and four forced ones in each 61 s, a check in each five
		// minutes, and what the others need: five rotations in each 4 min, a miss
		// in each minute.
		require.LessOrEqual(t, s.vault.departed(), 10*(4+4)+10/5+5*10/4+10+10)
	})
}

// A caller that joins a refresh which waits for a slot above the reserve is told
// at once how long a miss waits, though the budget has nothing new to say.
func TestACallerJoinsARefreshThatWaits(t *testing.T) {
	bubble(t, func(s *sim) {
		endless(s, 0)
		s.broker.SetGrant(simGrant("jwt", "grnt", 2*time.Hour))
		_, err := s.get(serviceName(0), "uid:1000", time.Second)
		require.NoError(t, err)
		// All slots are taken in one moment, and come back in one: a refresh and
		// a miss have to wait equally long.
		time.Sleep(5*time.Minute - 5*time.Second)
		var callers sync.WaitGroup
		for i := range 20 {
			callers.Go(func() { _, _ = s.get(serviceName(1+i), fmt.Sprint("uid:", i), time.Second) })
		}
		callers.Wait()
		// The last one is kept for the check, until that has just been made.
		_, err = s.get(serviceName(30), "uid:1000", time.Second)
		require.NoError(t, err)
		require.Equal(t, 20, s.budget.Status().Used)
		time.Sleep(10 * time.Second)
		_, err = s.get(serviceName(0), "uid:1000", 0)
		require.NoError(t, err, "what is stale is served while it is refreshed")
		time.Sleep(time.Second)

		began := time.Now()
		_, err = s.broker.Get(s.t.Context(), broker.Request{
			Service: serviceName(0), Caller: "uid:1000", Wait: 10 * time.Second, NoCache: true,
		})
		require.Greater(t, rateLimited(t, err), 10*time.Second)
		require.LessOrEqual(t, time.Since(began), 100*time.Millisecond)
	})
}

// No answer for anybody by the deadline, and still nobody waits beyond it.
func TestEveryoneIsToldByTheDeadline(t *testing.T) {
	for name, fault := range map[string]func(s *sim){
		"the vault hangs":  func(s *sim) { s.vault.latency = time.Hour },
		"the vault resets": func(s *sim) { s.vault.fault = func() (int, error) { return 0, errors.New("reset") } },
		"the vault fails":  func(s *sim) { s.vault.fault = func() (int, error) { return 500, nil } },
		"nothing is left":  func(s *sim) { s.vault.opened, s.vault.spent = s.vault.now(), 20 },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(s *sim) {
				endless(s, time.Hour)
				s.vault.set(func() { fault(s) })
				s.broker.SetGrant(simGrant("jwt", "grnt", 2*time.Hour))
				var callers sync.WaitGroup
				for i := range 300 {
					callers.Go(func() {
						wait := time.Duration(i) * 100 * time.Millisecond
						began := time.Now()
						_, err := s.get(serviceName(i%30), fmt.Sprint("uid:", i%7), wait)
						if took := time.Since(began); took > wait {
							t.Errorf("a read with a wait of %s took %s", wait, took)
						}
						if err == nil && name == "the vault hangs" {
							t.Error("a credential came from nowhere")
						}
					})
				}
				callers.Wait()
			})
		})
	}
}

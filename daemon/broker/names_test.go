package broker_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/grantexd/grantexd/daemon/broker"
	"github.com/grantexd/grantexd/upstream"
)

func TestEachFruitlessNameHoldsItsPlaceForAMinute(t *testing.T) {
	for name, err := range map[string]error{"404": errNotFound, "403": errForbidden} {
		t.Run(name, func(t *testing.T) {
			run(t, broker.Tunables{}, func(k *bench) {
				k.vault.fail(err)
				for i := range 4 {
					k.at(time.Duration(i) * 10 * time.Second)
					k.soon(fmt.Sprint("wrong", i))
				}
				e := k.fails(reader("wrong4", "uid:1", 10*time.Second), err4(err))
				require.Equal(t, 4, k.vault.count()-1, "another caller has places of its own: %s", e.Message)
				e = k.soonTooMany()
				require.Equal(t, 61*time.Second+latency-(30*time.Second+2*latency), e.RetryAfter)
				require.Contains(t, e.Message, "4 a minute are allowed")

				// The places come back one by one, ten seconds apart.
				for i := range 3 {
					k.at(61*time.Second + latency + time.Duration(i)*10*time.Second - ms)
					k.soonTooMany()
					k.at(61*time.Second + latency + time.Duration(i)*10*time.Second)
					before := k.vault.count()
					k.soon(fmt.Sprint("again", i))
					require.Equal(t, before+1, k.vault.count())
				}
			})
		})
	}
}

// err4 is the kind of failure that the vault's error stands for.
func err4(err error) broker.Kind {
	if err == errNotFound { //nolint:errorlint // it is the very same
		return broker.KindNotFound
	}
	return broker.KindForbidden
}

// soonTooMany reads another name and requires that it is refused at once.
func (k *bench) soonTooMany() *broker.Error {
	k.t.Helper()
	e := k.fails(reader(fmt.Sprint("more", time.Now().UnixNano()), "uid:1000", 0), broker.KindRateLimited)
	require.Contains(k.t, e.Message, "too many services")
	return e
}

func TestFourUnknownNamesUnderWayAtOnce(t *testing.T) {
	run(t, broker.Tunables{}, func(k *bench) {
		var all []<-chan outcome
		for i := range 5 {
			all = append(all, k.later(reader(fmt.Sprint("s", i), "uid:1", time.Second)))
			synctest.Wait()
		}
		require.Equal(t, 4, k.vault.count())
		k.fails(reader("s5", "uid:1", latency/2), broker.KindRateLimited)
		for i, done := range all {
			took := k.gets(done, "first")
			if i < 4 {
				require.Equal(t, latency, took)
				continue
			}
			require.Equal(t, 2*latency, took, "the fifth leaves as soon as one is answered")
		}
	})
}

func TestKnownServicesAreNotHeldUp(t *testing.T) {
	run(t, broker.Tunables{}, func(k *bench) {
		k.vault.set(func(_, service string) (*upstream.Credential, error) {
			if service != "github" {
				return nil, errNotFound
			}
			return credential(service, "first", time.Now().Add(30*time.Second)), nil
		})
		k.want("github", "first")
		for i := range 4 {
			k.soon1000(fmt.Sprint("wrong", i))
		}
		k.fails(reader("wrong4", "uid:1000", time.Second), broker.KindRateLimited)
		k.at(40 * time.Second)
		k.want("github", "first")
		require.Equal(t, 6, k.vault.count())
	})
}

// soon1000 is soon for the caller that want reads as.
func (k *bench) soon1000(service string) {
	k.t.Helper()
	k.fails(reader(service, "uid:1000", latency+50*ms), broker.KindNotFound)
}

func TestWhoJoinsAFlightIsNotCharged(t *testing.T) {
	run(t, broker.Tunables{UnknownNames: 1}, func(k *bench) {
		k.vault.set(nil)
		first := k.later(reader("wrong", "uid:1", time.Second))
		synctest.Wait()
		second := k.later(reader("wrong", "uid:2", time.Second))
		k.told(first, broker.KindNotFound, latency)
		k.told(second, broker.KindNotFound, latency)
		k.fails(reader("other", "uid:1", latency+ms), broker.KindRateLimited)
		k.fails(reader("other", "uid:2", latency+ms), broker.KindNotFound)
	})
}

func TestMayTakeLast(t *testing.T) {
	run(t, broker.Tunables{}, func(k *bench) {
		miss := func(service string) bool {
			k.want(service, "first")
			calls := k.vault.seen()
			require.Equal(t, service, calls[len(calls)-1].service)
			return calls[len(calls)-1].last
		}
		require.True(t, miss("a"), "nothing is held that a check could be for")
		require.True(t, miss("b"), "the grant was confirmed just now")
		k.at(latency + 3*time.Minute - ms)
		require.True(t, miss("c"), "no check is due before a slot comes back")
		k.at(2*latency + 6*time.Minute)
		require.False(t, miss("d"), "one may be due two minutes from now")
		k.b.SetGrant(k.grant("jwt-2", "grnt-1", "*"))
		k.vault.store("first", 8*time.Hour)
		require.NotEmpty(t, k.b.Held())
		asked := k.later(reader("e", "uid:1", time.Second))
		k.gets(asked, "first")
		for _, c := range k.vault.seen() {
			if c.service == "e" {
				require.False(t, c.last, "a new token is to be checked")
			}
		}
		k.b.SetGrant(k.grant("jwt-3", "grnt-3", "*"))
		require.True(t, miss("f"), "nothing is held of another consent")
	})
}

func TestTheIdlestServiceMakesRoom(t *testing.T) {
	run(t, broker.Tunables{MaxServices: 3}, func(k *bench) {
		for _, service := range []string{"a", "b", "c"} {
			k.want(service, "first")
		}
		k.at(time.Second)
		k.want("a", "first")
		k.at(2 * time.Second)
		k.want("c", "first")
		k.want("d", "first")
		var held []string
		for _, h := range k.b.Held() {
			held = append(held, h.Service)
		}
		require.Equal(t, []string{"a", "c", "d"}, held)
		require.Equal(t, 4, k.vault.count())
		k.want("b", "first")
		require.Len(t, k.b.Held(), 3)
	})
}

func TestNoCacheJoinsAndSpaces(t *testing.T) {
	run(t, slowChecks, func(k *bench) {
		k.gets(k.later(forced("uid:1", time.Second)), "first") // nothing is held: a miss
		k.at(time.Minute)
		k.vault.store("second", time.Hour)
		var all []<-chan outcome
		for i := range 32 {
			all = append(all, k.later(forced(fmt.Sprint("uid:", i), time.Second)))
		}
		synctest.Wait()
		k.gets(k.later(reader("github", "uid:1", 0)), "first") // others are served meanwhile
		for _, done := range all {
			require.Equal(t, latency, k.gets(done, "second"))
		}
		require.Equal(t, 2, k.vault.count())
		a, err := k.b.Get(k.t.Context(), forced("uid:1", time.Second))
		require.NoError(t, err)
		require.True(t, a.Hit)
	})
}

func TestNoCacheJoinsWhatIsUnderWayAnyhow(t *testing.T) {
	run(t, broker.Tunables{}, func(k *bench) {
		k.want("github", "first")
		k.at(5 * time.Second)
		k.b.SetGrant(k.grant("jwt-2", "grnt-1", "*"))
		k.vault.store("second", time.Hour)
		k.want("github", "first")
		synctest.Wait()
		require.Equal(t, 2, k.vault.count(), "the new token is being checked")
		require.Equal(t, latency, k.gets(k.later(forced("uid:1", time.Second)), "second"))
		require.Equal(t, 2, k.vault.count())
	})
}

func TestNoCacheOfWhatWasRefused(t *testing.T) {
	run(t, broker.Tunables{}, func(k *bench) {
		k.vault.set(nil)
		k.told(k.later(forced("uid:1", time.Second)), broker.KindNotFound, latency)
		k.told(k.later(forced("uid:1", time.Second)), broker.KindNotFound, 0)
		require.Equal(t, 1, k.vault.count())
	})
}

// A caller that pauses is asked again and again what it wants, and pays once, for
// what departs.
func TestAForcedExchangeIsChargedWhenItBegins(t *testing.T) {
	limited := vaultError(429, "BAD_REQUEST", "Rate limit exceeded")
	limited.RetryAfter = 20 * time.Second
	run(t, slowChecks, func(k *bench) {
		k.want("github", "first")
		k.at(31 * time.Second)
		k.vault.fail(limited)
		k.soon("slack")
		k.vault.store("second", time.Hour)
		waiting := k.later(forced("uid:1", 30*time.Second))
		for range 10 {
			time.Sleep(time.Second)
			k.b.Reconfigure(slowChecks, nil) // wakes whoever pauses
		}
		require.Equal(t, 20*time.Second+latency, k.gets(waiting, "second"))
	})
}

func TestOneCallerCantReportTheWholeBudgetAway(t *testing.T) {
	run(t, slowChecks, func(k *bench) {
		for i := range 12 {
			k.want(fmt.Sprint("service", i), "first")
		}
		k.vault.store("second", time.Hour)
		k.at(2 * time.Minute)
		report := func(caller string) (fresh int) {
			for i := range 12 {
				_, err := k.b.Rejected(k.t.Context(), reader(fmt.Sprint("service", i), caller, time.Second), "fp-first")
				if err == nil {
					fresh++
					continue
				}
				require.ErrorContains(t, err, "its next report counts in")
			}
			return fresh
		}
		require.Equal(t, 4, report("uid:1"))
		require.Equal(t, 12+4, k.vault.count())
		require.Equal(t, 8, report("uid:2"), "its own four, and what uid:1 brought")
		k.at(2*time.Minute + 61*time.Second)
		require.Equal(t, 12, report("uid:1"))
		require.Equal(t, 12+12, k.vault.count())
	})
}

func TestOneCallerCantForceTheWholeBudget(t *testing.T) {
	run(t, broker.Tunables{}, func(k *bench) {
		for i := range 12 {
			k.want(fmt.Sprint("service", i), "first")
		}
		k.at(2 * time.Minute)
		force := func(caller string) {
			for i := range 12 {
				_, err := k.ask(broker.Request{Service: fmt.Sprint("service", i), Caller: caller, Wait: time.Second, NoCache: true})
				require.NoError(t, err, "beyond its share it gets what is held")
			}
		}
		force("uid:1")
		force("uid:1")
		require.Equal(t, 12+4, k.vault.count())
		force("uid:2")
		require.Equal(t, 12+8, k.vault.count(), "each caller has a share of its own")
		k.at(2*time.Minute + 61*time.Second)
		force("uid:1")
		require.Equal(t, 12+12, k.vault.count())
	})
}

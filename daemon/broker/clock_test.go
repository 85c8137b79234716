package broker_test

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/grantexd/grantexd/daemon/broker"
	"github.com/grantexd/grantexd/upstream"
)

// vaultAhead puts the vault's clock off, and tells the broker by one exchange.
func vaultAhead(d time.Duration) func(*bench) {
	return func(k *bench) {
		k.vault.change(func() { k.vault.ahead = d })
		k.want("clock", "first")
	}
}

func TestTheVaultsClockCallsACredentialExpired(t *testing.T) {
	const year = 365 * 24 * time.Hour
	for name, steps := range map[string][]step{
		// The exchange for "clock" takes one latency, so github's departs at
		// 100 ms, which the vault's Date takes for 0 s.
		"the vault is ten minutes ahead": {
			{0, vaultAhead(10 * time.Minute), noRead, 0, 1},
			{latency, store("first", 10*time.Minute+58*time.Second), "first", 0, 2},
			{2*latency + 53*time.Second - ms, store("next", time.Hour), "first", 0, 2},
			{2*latency + 53*time.Second, nil, "next", 0, 3},
		},
		"this host is ten minutes behind": {
			{0, stepClock(-10 * time.Minute), noRead, 0, 0},
			{0, store("first", 58*time.Second), "first", 0, 1},
			{53*time.Second - ms, nil, "first", 0, 1},
			{53 * time.Second, store("next", time.Hour), "next", 0, 2},
		},
		"this host believes to live decades ago": {
			{0, stepClock(-25 * year), noRead, 0, 0},
			{0, store("first", 58*time.Second), "first", 0, 1},
			{53*time.Second - ms, nil, "first", 0, 1},
			{53 * time.Second, store("next", time.Hour), "next", 0, 2},
		},
		"this host is ahead, so that nothing seems to live": {
			{0, stepClock(time.Hour), noRead, 0, 0},
			{0, store("first", 30*time.Minute), "", broker.KindExpired, 1},
			{time.Minute, stepClock(-time.Hour), "first", 0, 2},
		},
	} {
		t.Run(name, func(t *testing.T) { play(t, steps) })
	}
}

// An answer may take ten seconds, most of them after its Date was written. Then
// the vault's clock is that much further than its Date says.
func TestASlowAnswerHidesNoExpiry(t *testing.T) {
	const slow = 8 * time.Second
	run(t, broker.Tunables{}, func(k *bench) {
		k.clock.Step(-time.Hour)
		k.vault.delay = slow
		expires := time.Now().Add(time.Minute)
		k.vault.set(func(_, service string) (*upstream.Credential, error) {
			c := credential(service, "slow", expires)
			c.Date = time.Now().Add(-slow)
			return c, nil
		})
		k.want("github", "slow")
		k.at(55*time.Second - ms)
		k.want("github", "slow")
		k.vault.store("next", time.Hour)
		k.at(55 * time.Second)
		k.want("github", "next")
	})
}

func TestAProxysClockIsNotTheVaults(t *testing.T) {
	tomorrow := func(e *upstream.Error) *upstream.Error {
		e.Date = time.Now().Add(24 * time.Hour)
		return e
	}
	for name, c := range map[string]struct {
		err  func() error
		want string
	}{
		"a page of a proxy": {func() error { return tomorrow(&upstream.Error{Status: 502, URL: "https://vault.test"}) }, "first"},
		"no answer":         {func() error { return errConnect }, "first"},
		"the vault's own":   {func() error { return tomorrow(vaultError(500, "INTERNAL_ERROR", "oops")) }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			run(t, broker.Tunables{}, func(k *bench) {
				k.want("github", "first")
				err := c.err()
				k.vault.fail(err)
				k.soon("slack")
				if c.want == "" {
					k.soon("github")
					return
				}
				k.want("github", c.want)
			})
		})
	}
}

func TestADateThatIsNoneIsIgnored(t *testing.T) {
	for name, date := range map[string]time.Time{
		"far": time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC), "old": noDate,
	} {
		t.Run(name, func(t *testing.T) {
			run(t, broker.Tunables{}, func(k *bench) {
				k.vault.set(func(_, service string) (*upstream.Credential, error) {
					c := credential(service, "first", time.Now().Add(time.Hour))
					c.Date = date
					return c, nil
				})
				k.want("github", "first")
				k.want("github", "first")
				require.Equal(t, 1, k.vault.count())
				require.False(t, k.b.Status().ClockKnown)
			})
		})
	}
}

// noDate is a Date header that tells nothing.
var noDate = time.Date(1, 2, 3, 0, 0, 0, 0, time.UTC)

// The year 9999 stands for "never". Sums of such times must not overflow, or the
// credential would count as expired, and be asked for at each read.
func TestAnExpiryFarAwayIsHeld(t *testing.T) {
	for name, expires := range map[string]time.Time{
		"9999": time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC),
		"2300": time.Date(2300, 1, 1, 0, 0, 0, 0, time.UTC),
	} {
		t.Run(name, func(t *testing.T) {
			run(t, broker.Tunables{}, func(k *bench) {
				g := k.grant("jwt-far", "grnt-1", "*")
				g.Grant.Claims.ExpiresAt = expires
				k.b.SetGrant(g)
				k.vault.set(func(_, service string) (*upstream.Credential, error) {
					c := credential(service, "first", expires)
					c.Date = noDate
					return c, nil
				})
				for range 10 {
					k.want("github", "first")
				}
				require.Equal(t, 1, k.vault.count())
				require.Greater(t, k.answer("github").TTL, 24*time.Hour)
			})
		})
	}
}

func TestTheGrantsExpiryByEveryClock(t *testing.T) {
	lives := func(d time.Duration) func(*bench) {
		return func(k *bench) {
			g := k.grant("jwt-2", "grnt-1", "*")
			g.Grant.Claims.ExpiresAt = k.start.Add(d)
			k.b.SetGrant(g)
		}
	}
	for name, steps := range map[string][]step{
		"this host's": {
			{0, lives(time.Minute), "first", 0, 1},
			{time.Second, stepClock(59*time.Second - ms), "first", 0, 1},
			{time.Second, stepClock(ms), "", broker.KindUnauthorized, 1},
		},
		"the boot clock, when the other was set back": {
			{0, lives(time.Minute), "first", 0, 1},
			{time.Second, stepClock(-time.Hour), "first", 0, 1},
			{time.Minute - ms, nil, "first", 0, 1},
			{time.Minute, nil, "", broker.KindUnauthorized, 1},
		},
		"the machine slept": {
			{0, lives(time.Minute), "first", 0, 1},
			{time.Second, func(k *bench) { k.clock.Suspend(59 * time.Second) }, "", broker.KindUnauthorized, 1},
		},
		"the vault's": {
			{0, lives(11 * time.Minute), "first", 0, 1},
			{latency, vaultAhead(10 * time.Minute), "first", 0, 2},
			// Its Date says whole seconds, as of the departure at 100 ms.
			{time.Minute + latency - ms, nil, "first", 0, 2},
			{time.Minute + latency, nil, "", broker.KindUnauthorized, 2},
		},
		"a clock that was set right again": {
			{0, nil, "first", 0, 1},
			{time.Second, stepClock(100 * time.Hour), "", broker.KindUnauthorized, 1},
			{30 * time.Second, stepClock(-100 * time.Hour), "first", 0, 2},
		},
	} {
		t.Run(name, func(t *testing.T) { play(t, steps) })
	}
}

// The wall clock alone would not do: it was set back. Nor is the vault's known.
func TestTheGrantsExpiryByTheBootClockAlone(t *testing.T) {
	run(t, broker.Tunables{}, func(k *bench) {
		g := k.grant("jwt-2", "grnt-1", "*")
		g.Grant.Claims.ExpiresAt = k.start.Add(time.Minute)
		k.b.SetGrant(g)
		k.vault.set(func(_, service string) (*upstream.Credential, error) {
			c := credential(service, "first", time.Now().Add(time.Hour))
			c.Date = noDate
			return c, nil
		})
		k.want("github", "first")
		k.clock.Step(-time.Hour)
		k.at(time.Minute - ms)
		k.want("github", "first")
		k.at(time.Minute)
		k.refuse("github", broker.KindUnauthorized)
	})
}

func TestTheGrantsEndPurges(t *testing.T) {
	run(t, broker.Tunables{}, func(k *bench) {
		g := k.grant("jwt-2", "grnt-1", "*")
		g.Grant.Claims.ExpiresAt = k.start.Add(time.Minute)
		k.b.SetGrant(g)
		a := k.answer("github")
		require.Equal(t, time.Minute-latency, a.TTL, "nothing lives longer than the grant")
		require.Equal(t, a.TTL, k.b.Held()[0].TTL)
		k.at(time.Minute - latency/2)
		require.NotNil(t, k.b.Snapshot())
		withheld := k.withheld

		// An exchange that departed before the end answers after it.
		late := k.later(reader("slack", "uid:1000", time.Second))
		k.at(time.Minute + ms)
		require.Nil(t, k.b.Snapshot())
		require.Empty(t, k.b.Held())
		require.Greater(t, k.withheld, withheld)
		k.at(time.Minute + latency)
		var e *broker.Error
		require.ErrorAs(t, (<-late).err, &e)
		require.Equal(t, broker.KindUnauthorized, e.Kind)
		require.ErrorContains(t, k.b.Ready(), "expired")
		k.at(3 * time.Hour)
		require.Equal(t, 2, k.vault.count(), "nothing is refreshed, checked or probed with an expired grant")
	})
}

// Between two looks of Run the gate is shut by the clock alone.
func TestAnAnswerAfterTheGrantsEndIsForNobody(t *testing.T) {
	run(t, broker.Tunables{}, func(k *bench) {
		done := k.later(reader("github", "uid:1", time.Second))
		time.Sleep(latency / 2)
		k.clock.Step(100 * time.Hour)
		var e *broker.Error
		require.ErrorAs(t, (<-done).err, &e)
		require.Equal(t, broker.KindUnauthorized, e.Kind)
	})
}

func TestClockOffsetInStatus(t *testing.T) {
	for name, c := range map[string]struct{ ahead, delay time.Duration }{
		"two minutes ahead":             {2 * time.Minute, latency},
		"two minutes behind":            {-2 * time.Minute, latency},
		"right, but slow":               {0, 9 * time.Second},
		"behind, and slow at answering": {-time.Hour, 9 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			run(t, broker.Tunables{}, func(k *bench) {
				require.False(t, k.b.Status().ClockKnown)
				k.vault.delay, k.vault.ahead = c.delay, c.ahead
				k.answer("github")
				st := k.b.Status()
				require.True(t, st.ClockKnown)
				require.InDelta(t, c.ahead.Seconds(), st.ClockOffset.Seconds(), 1+c.delay.Seconds()/2)
			})
		})
	}
}

func TestWhatIsSaidOfAnExpiredCredential(t *testing.T) {
	for name, c := range map[string]struct {
		life, ahead time.Duration
		says        string
	}{
		"past":                     {-time.Hour, 0, "that expired at 1999-12-31T23:00:00Z: store a new one"},
		"about to expire":          {3 * time.Second, 0, "in less than 5s: store a new one"},
		"on the edge":              {5 * time.Second, 0, "in less than 5s: store a new one"},
		"past by the vault's only": {5 * time.Minute, 10 * time.Minute, "clock and the vault's differ by 10m0s; set the one that is off"},
		"past by this host's only": {-5 * time.Minute, -10 * time.Minute, "clock and the vault's differ by 10m0s; set the one that is off"},
	} {
		t.Run(name, func(t *testing.T) {
			run(t, broker.Tunables{}, func(k *bench) {
				k.vault.ahead = c.ahead
				k.vault.store("bad", c.life)
				e := k.refuse("github", broker.KindExpired)
				require.Contains(t, e.Message, c.says)
				require.Equal(t, 30*time.Second, e.RetryAfter)
				require.Equal(t, "expired", k.b.Explain("github").State)
			})
		})
	}
}

func TestAFailureOfOurOwnIsToldInTheLogOnly(t *testing.T) {
	run(t, broker.Tunables{}, func(k *bench) {
		k.vault.fail(errors.New("something with a canary in it"))
		e := k.soon("github")
		require.Equal(t, broker.KindInternal, e.Kind)
		require.NotContains(t, e.Message, "canary")
		require.Len(t, k.log.with("ERROR", "canary"), 1)
	})
}

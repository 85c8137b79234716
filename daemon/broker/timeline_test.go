package broker_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/grantexd/grantexd/daemon/broker"
	"github.com/grantexd/grantexd/daemon/grant"
	"github.com/grantexd/grantexd/upstream"
)

// step is one moment of a timeline: something happens, somebody reads, and the
// vault has been asked that often since the start.
type step struct {
	after time.Duration
	do    func(*bench)
	// read is the token that a read of github brings; "-" for no read.
	read string
	// kind is how a read of github fails, if read is empty.
	kind      broker.Kind
	exchanges int
}

// noRead marks a step at which nobody reads.
const noRead = "-"

func play(t *testing.T, steps []step) {
	t.Helper()
	run(t, broker.Tunables{}, func(k *bench) {
		for i, s := range steps {
			k.at(s.after)
			if s.do != nil {
				s.do(k)
			}
			switch s.read {
			case noRead:
			case "":
				k.refuse("github", s.kind)
			default:
				k.want("github", s.read)
			}
			synctest.Wait() // for what the read makes Run do
			require.Equal(t, s.exchanges, k.vault.count(), "exchanges after step %d at %s: %v", i, s.after, k.vault.seen())
		}
	})
}

func store(token string, life time.Duration) func(*bench) {
	return func(k *bench) { k.vault.store(token, life) }
}

func fail(err error) func(*bench) { return func(k *bench) { k.vault.fail(err) } }

func stepClock(d time.Duration) func(*bench) { return func(k *bench) { k.clock.Step(d) } }

// ms is the smallest step of the boundaries below.
const ms = time.Millisecond

func TestExpiry(t *testing.T) {
	for name, steps := range map[string][]step{
		"served until five seconds before its expiry": {
			{0, store("short", 50*time.Second), "short", 0, 1},
			{45*time.Second - ms, store("next", time.Hour), "short", 0, 1},
			{45 * time.Second, nil, "next", 0, 2},
		},
		"less than five seconds left is not served, and remembered for thirty": {
			{0, store("late", 5*time.Second), "", broker.KindExpired, 1},
			{30*time.Second + latency - ms, nil, "", broker.KindExpired, 1},
			{30*time.Second + latency, store("good", time.Hour), "good", 0, 2},
		},
		"five seconds left as it comes are too few": {
			{0, store("tight", 5*time.Second+latency), "", broker.KindExpired, 1},
		},
		"just more than five seconds left is served": {
			{0, store("tight", 5*time.Second+latency+ms), "tight", 0, 1},
		},
		"past expiry is not served": {
			{0, store("past", -time.Hour), "", broker.KindExpired, 1},
			{time.Second, nil, "", broker.KindExpired, 1},
		},
		"the wall clock jumps ahead": {
			{0, store("first", time.Hour), "first", 0, 1},
			{time.Second, stepClock(time.Hour - 7*time.Second), "first", 0, 1},
			{2 * time.Second, func(k *bench) { k.clock.Step(time.Second) }, "", broker.KindExpired, 2},
		},
		"the wall clock jumps back": {
			{0, store("first", 50*time.Second), "first", 0, 1},
			{time.Second, stepClock(-time.Hour), "first", 0, 1},
			{45*time.Second - ms, nil, "first", 0, 1},
			{45 * time.Second, store("second", 2*time.Hour), "second", 0, 2},
		},
		"the machine sleeps": {
			{0, store("first", time.Hour), "first", 0, 1},
			// The grant was last confirmed before: that is asked for, too.
			{time.Second, func(k *bench) { k.clock.Suspend(time.Hour - 7*time.Second) }, "first", 0, 2},
		},
		"the machine sleeps beyond the expiry": {
			{0, store("first", time.Hour), "first", 0, 1},
			{time.Second, func(k *bench) {
				k.clock.Suspend(time.Hour)
				k.vault.store("second", 3*time.Hour)
			}, "second", 0, 2},
		},
	} {
		t.Run(name, func(t *testing.T) { play(t, steps) })
	}
}

func TestRefusals(t *testing.T) {
	for name, steps := range map[string][]step{
		"404 is remembered for thirty seconds": {
			{0, fail(errNotFound), "", broker.KindNotFound, 1},
			{30*time.Second + latency - ms, nil, "", broker.KindNotFound, 1},
			{30*time.Second + latency, store("new", time.Hour), "new", 0, 2},
		},
		"403 is remembered for five minutes": {
			{0, fail(errForbidden), "", broker.KindForbidden, 1},
			{5*time.Minute + latency - ms, nil, "", broker.KindForbidden, 1},
			{5*time.Minute + latency, store("new", time.Hour), "new", 0, 2},
		},
		"403 is forgotten with a new token of the same consent": {
			{0, fail(errForbidden), "", broker.KindForbidden, 1},
			{time.Second, func(k *bench) {
				k.vault.store("new", time.Hour)
				k.b.SetGrant(k.grant("jwt-2", "grnt-1", "*"))
			}, "new", 0, 2},
		},
		"a success ends the memory of a refusal": {
			{0, fail(errForbidden), "", broker.KindForbidden, 1},
			{31 * time.Second, func(k *bench) {
				k.vault.store("now", 20*time.Second)
				k.gets(k.later(forced("uid:1", time.Second)), "now")
			}, "now", 0, 2},
			{52 * time.Second, store("later", time.Hour), "later", 0, 3},
		},
		"404 at a re-exchange evicts": {
			{0, store("first", time.Hour), "first", 0, 1},
			{time.Minute, nil, "first", 0, 1},
			{2 * time.Minute, fail(errNotFound), "first", 0, 1},
			// The check of the grant comes 4:50 after the last departure.
			{4*time.Minute + 50*time.Second - ms, nil, "first", 0, 1},
			{4*time.Minute + 50*time.Second + latency, nil, "", broker.KindNotFound, 2},
		},
	} {
		t.Run(name, func(t *testing.T) { play(t, steps) })
	}
}

func TestScopesThatCannotCoverCostNoDeparture(t *testing.T) {
	run(t, broker.Tunables{}, func(k *bench) {
		k.b.SetGrant(k.grant("jwt-2", "grnt-1", "slack:read"))
		e := k.refuse("github", broker.KindForbidden)
		require.Contains(t, e.Message, "vault:github:read")
		require.Zero(t, k.vault.count())
		k.want("slack", "first")

		unknown := k.grant("jwt-3", "grnt-1")
		unknown.Grant.Claims.ScopesKnown = false
		k.b.SetGrant(unknown)
		k.want("github", "first")
	})
}

func TestRefreshAhead(t *testing.T) {
	for name, steps := range map[string][]step{
		"one that is read is refreshed before it expires": {
			{0, store("first", time.Hour), "first", 0, 1},
			// The lead is 5 min ± 30 s; the checks of the grant come every
			// 4:50 while somebody reads.
			{54*time.Minute + 29*time.Second, store("second", time.Hour), noRead, 0, 1},
			{55*time.Minute + 31*time.Second, nil, "second", 0, 2},
		},
		"one that was not read since the last refresh is not": {
			{0, store("first", time.Hour), "first", 0, 1},
			{56 * time.Minute, nil, noRead, 0, 2},
			{3 * time.Hour, nil, noRead, 0, 2},
		},
		"a life under a minute is not refreshed ahead": {
			{0, store("first", 59*time.Second), "first", 0, 1},
			{53 * time.Second, nil, "first", 0, 1},
		},
	} {
		t.Run(name, func(t *testing.T) { play(t, steps) })
	}
}

// However short they are configured to be fresh, and however often they are read.
func TestExchangesOfOneServiceAreSpaced(t *testing.T) {
	run(t, broker.Tunables{FreshWithoutExpiry: time.Second, ConfirmInterval: time.Hour}, func(k *bench) {
		k.vault.store("first", 0)
		for time.Since(k.start) < 10*time.Minute {
			k.want("github", "first")
			time.Sleep(time.Second)
		}
		calls := k.vault.seen()
		require.InDelta(t, 20, len(calls), 1)
		for i := 1; i < len(calls); i++ {
			require.GreaterOrEqual(t, calls[i].at-calls[i-1].at, 30*time.Second)
		}
	})
}

func TestARefreshInTheLastMinuteIsUrgent(t *testing.T) {
	tunables := slowChecks
	tunables.CooldownMax = 10 * time.Second // or the last minute might pass in one
	run(t, tunables, func(k *bench) {
		k.vault.store("first", time.Hour)
		k.want("github", "first")
		k.vault.fail(errServer)
		urgent := time.Hour - 5*time.Second - time.Minute
		for time.Since(k.start) < time.Hour-6*time.Second {
			k.want("github", "first")
			time.Sleep(time.Second)
		}
		classes := map[upstream.Class]int{}
		for _, c := range k.vault.seen()[1:] {
			classes[c.class]++
			require.Equal(t, c.at >= urgent, c.class == upstream.ClassMiss, "%v", c)
		}
		require.Positive(t, classes[upstream.ClassRefresh])
		require.Positive(t, classes[upstream.ClassMiss])
	})
}

// Each first read after idleness is seen at once, also soon after another one.
func TestReadsThatAreDueWakeTheLoop(t *testing.T) {
	run(t, slowChecks, func(k *bench) {
		k.vault.store("first", 0)
		k.want("a", "first")
		k.want("b", "first")
		k.at(20 * time.Minute)
		k.vault.store("second", 0)
		before := k.vault.count()
		k.want("a", "first")
		k.at(20*time.Minute + 300*ms)
		require.Equal(t, before+1, k.vault.count())
		k.want("b", "first")
		k.at(20*time.Minute + 500*ms)
		require.Equal(t, before+2, k.vault.count())
	})
}

func TestWhatExpiredIsForgottenWithoutReads(t *testing.T) {
	run(t, broker.Tunables{}, func(k *bench) {
		k.vault.store("first", time.Hour)
		k.want("github", "first")
		k.clock.Step(time.Hour)
		k.at(16 * time.Second)
		require.Zero(t, k.b.Status().Held, "no secret stays in memory that is of no use")
	})
}

func TestRotationStuck(t *testing.T) {
	run(t, broker.Tunables{}, func(k *bench) {
		expires := time.Now().Add(time.Hour)
		k.vault.set(same("old", expires))
		k.want("github", "old")
		// Due at 55 min ± 30 s; from then on after half of what remains.
		k.at(55*time.Minute + 31*time.Second)
		require.Equal(t, 2, k.vault.count())
		require.True(t, k.b.Held()[0].RotationStuck)
		for k.b.Held() != nil && time.Since(k.start) < 59*time.Minute+54*time.Second {
			k.want("github", "old")
			time.Sleep(time.Second)
		}
		n := k.vault.count()
		require.Greater(t, n, 3)
		require.LessOrEqual(t, n, 8, "rechecks must not eat the budget")
		k.vault.store("new", time.Hour)
		k.at(time.Hour)
		k.want("github", "new")
		require.False(t, k.b.Held()[0].RotationStuck)
	})
}

func TestWithoutExpiry(t *testing.T) {
	for name, steps := range map[string][]step{
		"fresh for five minutes, then revalidated if it was read": {
			{0, store("first", 0), "first", 0, 1},
			{4*time.Minute + 40*time.Second, store("second", 0), "first", 0, 1},
			{5*time.Minute + time.Second, nil, "second", 0, 2},
		},
		"served stale at the first read after idleness": {
			{0, store("first", 0), "first", 0, 1},
			{5*time.Minute + time.Second, nil, noRead, 0, 2},
			{50 * time.Minute, store("second", 0), "first", 0, 3},
			{50*time.Minute + latency, nil, "second", 0, 3},
		},
	} {
		t.Run(name, func(t *testing.T) { play(t, steps) })
	}
}

func TestWithoutExpiryIsFreshForFiveMinutes(t *testing.T) {
	run(t, slowChecks, func(k *bench) {
		k.vault.store("first", 0)
		k.want("github", "first")
		k.vault.store("second", 0)
		k.at(latency + 5*time.Minute - ms)
		require.Equal(t, ms, k.answer("github").TTL)
		require.Equal(t, 1, k.vault.count())
		k.at(latency + 5*time.Minute)
		k.want("github", "first")
		k.at(latency + 5*time.Minute + latency)
		require.Equal(t, 2, k.vault.count())
		k.want("github", "second")
	})
}

// Tokens that nobody renews in the vault, read ten times a second until long
// after their end: however short they live, they are not asked for in a loop.
func TestShortLivesNeverLoop(t *testing.T) {
	for _, life := range []time.Duration{
		-time.Hour, 0 + ms, time.Second, 5 * time.Second, 5*time.Second + latency, 5*time.Second + latency + ms,
		6 * time.Second, 10 * time.Second, 59 * time.Second, time.Minute, 61 * time.Second, 2 * time.Minute,
	} {
		t.Run(life.String(), func(t *testing.T) {
			run(t, broker.Tunables{}, func(k *bench) {
				expires := time.Now().Add(life)
				k.vault.set(same("old", expires))
				for time.Since(k.start) < 5*time.Minute {
					_, err := k.get("github")
					require.Equal(t, err == nil, time.Now().Before(expires.Add(-5*time.Second)), "after %s: %v", time.Since(k.start), err)
					time.Sleep(100 * ms)
				}
				// One for each half minute, and some while it lives.
				require.LessOrEqual(t, k.vault.count(), 10+4)
			})
		})
	}
}

func TestWithoutExpiryEndsAfterAnHourOfFailure(t *testing.T) {
	run(t, broker.Tunables{}, func(k *bench) {
		k.vault.store("first", 0)
		k.want("github", "first")
		k.vault.fail(errServer)
		k.at(30 * time.Minute)
		a, err := k.b.Get(k.t.Context(), broker.Request{Service: "github", Caller: "uid:1", Wait: time.Second})
		require.NoError(t, err)
		require.Negative(t, a.TTL, "it is marked as stale")
		require.Positive(t, a.Unconfirmed, "and as not confirmed")
		k.at(time.Hour + latency - ms)
		k.want("github", "first")
		k.at(time.Hour + latency)
		// A cool-down may end just before the caller's deadline: then the probe
		// is under way when it comes.
		e := k.soon("github")
		require.Contains(t, []broker.Kind{broker.KindUpstream, broker.KindTimeout}, e.Kind)
	})
}

func TestNothingIsFreshBeyondItsEnd(t *testing.T) {
	run(t, broker.Tunables{FreshWithoutExpiry: 2 * time.Hour}, func(k *bench) {
		k.vault.store("first", 0)
		require.Equal(t, time.Hour, k.answer("github").TTL)
	})
}

func TestGrantStates(t *testing.T) {
	withdrawn := func(k *bench) { k.b.SetGrant(grant.Snapshot{State: grant.Withdrawn}) }
	back := func(k *bench) { k.b.SetGrant(k.grant("jwt-1", "grnt-1", "*")) }
	for name, steps := range map[string][]step{
		"withdrawn and back within a minute": {
			{0, nil, "first", 0, 1},
			{time.Second, withdrawn, "", broker.KindGrantUnavailable, 1},
			{61 * time.Second, back, "first", 0, 1},
		},
		"withdrawn and back later": {
			{0, nil, "first", 0, 1},
			{time.Second, withdrawn, "", broker.KindGrantUnavailable, 1},
			{61*time.Second + 2*ms, back, "first", 0, 2},
		},
		"withdrawn and another consent comes": {
			{0, nil, "first", 0, 1},
			{time.Second, withdrawn, "", broker.KindGrantUnavailable, 1},
			{2 * time.Second, func(k *bench) {
				k.vault.store("theirs", time.Hour)
				k.b.SetGrant(k.grant("jwt-9", "grnt-9", "*"))
			}, "theirs", 0, 2},
		},
		"expired": {
			{0, nil, "first", 0, 1},
			{time.Second, func(k *bench) {
				k.b.SetGrant(grant.Snapshot{State: grant.Expired})
			}, "", broker.KindUnauthorized, 1},
		},
		"its own exp ends everything even if nobody tells": {
			{0, func(k *bench) {
				g := k.grant("jwt-2", "grnt-1", "*")
				g.Grant.Claims.ExpiresAt = time.Now().Add(time.Minute)
				k.b.SetGrant(g)
			}, "first", 0, 1},
			{time.Minute - ms, nil, "first", 0, 1},
			{time.Minute, nil, "", broker.KindUnauthorized, 1},
		},
		"a new token of the same consent keeps the cache": {
			{0, nil, "first", 0, 1},
			{time.Minute, func(k *bench) {
				k.b.SetGrant(k.grant("jwt-2", "grnt-1", "*"))
			}, "first", 0, 2}, // it has to prove itself with one exchange
			{2 * time.Minute, nil, "first", 0, 2},
		},
		"a new token of the same consent with fewer scopes": {
			{0, nil, "first", 0, 1},
			{time.Minute, func(k *bench) {
				k.b.SetGrant(k.grant("jwt-2", "grnt-1", "slack:*"))
			}, "", broker.KindForbidden, 1},
		},
		"another consent purges": {
			{0, nil, "first", 0, 1},
			{time.Second, func(k *bench) {
				k.vault.store("theirs", time.Hour)
				k.b.SetGrant(k.grant("jwt-2", "grnt-2", "*"))
			}, "theirs", 0, 2},
		},
	} {
		t.Run(name, func(t *testing.T) { play(t, steps) })
	}
}

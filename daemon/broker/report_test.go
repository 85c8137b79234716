package broker_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/grantexd/grantexd/daemon/broker"
	"github.com/grantexd/grantexd/daemon/grant"
	"github.com/grantexd/grantexd/upstream"
)

func TestStatusOfAGrantThatWasNotUsedYet(t *testing.T) {
	run(t, broker.Tunables{MaxServices: 7}, func(k *bench) {
		st := k.b.Status()
		require.Nil(t, st.Err)
		require.Equal(t, grant.Usable, st.GrantState)
		require.Equal(t, "grnt-1", st.Claims.GrantID)
		require.Equal(t, broker.TrustUnknown, st.Trust)
		require.Negative(t, st.Confirmed)
		require.Negative(t, st.NextProbe)
		require.Negative(t, st.LastSuccess)
		require.Zero(t, st.Exchanges)
		require.Equal(t, 7, st.MaxServices)
	})
}

func TestStatusCounts(t *testing.T) {
	run(t, slowChecks, func(k *bench) {
		k.vault.store("first", 0)
		k.want("stale", "first")
		k.vault.set(same("stuck", k.start.Add(time.Hour)))
		k.want("stuck", "stuck")
		k.vault.fail(errServer)
		k.at(6 * time.Minute)
		k.want("stale", "first")
		k.vault.delay = time.Second
		waiting := k.later(reader("slack", "uid:1", 5*time.Second))
		also := k.later(reader("slack", "uid:2", 5*time.Second))
		k.at(6*time.Minute + ms)
		st := k.b.Status()
		require.Equal(t, 2, st.Held)
		require.Equal(t, 1, st.Stale)
		require.Zero(t, st.RotationStuck)
		require.Equal(t, 2, st.Waiters)
		require.Positive(t, st.Flights)
		k.told(waiting, broker.KindUpstream, 2*time.Second)
		k.told(also, broker.KindUpstream, 2*time.Second)
		st = k.b.Status()
		require.Contains(t, st.LastError, "answered 500")
		require.InDelta(t, 6*60, st.LastSuccess.Seconds(), 2)
		require.EqualValues(t, k.vault.count()-st.Flights, st.Exchanges, "answers, not departures")

		k.vault.set(same("stuck", k.start.Add(time.Hour)))
		for time.Since(k.start) < 56*time.Minute {
			k.want("stuck", "stuck")
			time.Sleep(10 * time.Second)
		}
		st = k.b.Status()
		require.Equal(t, 1, st.RotationStuck)
		require.Zero(t, st.Waiters)
		require.Empty(t, st.LastError)
		require.Zero(t, st.Failing)
	})
}

func TestStatusOfTrust(t *testing.T) {
	run(t, broker.Tunables{}, func(k *bench) {
		k.want("github", "first")
		require.Equal(t, broker.TrustConfirmed, k.b.Status().Trust)
		require.Equal(t, latency, k.b.Status().Confirmed)
		k.at(5 * time.Minute)
		require.Equal(t, broker.TrustConfirmed, k.b.Status().Trust)
		k.at(5*time.Minute + ms)
		require.Equal(t, broker.TrustOverdue, k.b.Status().Trust)
		k.vault.fail(errRejected)
		k.refuse("slack", broker.KindUnauthorized)
		st := k.b.Status()
		require.Equal(t, broker.TrustRejected, st.Trust)
		require.Equal(t, broker.KindUnauthorized, st.Err.Kind)
		require.Equal(t, time.Minute, st.NextProbe)
		require.Negative(t, st.Confirmed)
		k.b.SetGrant(grant.Snapshot{State: grant.Withdrawn})
		st = k.b.Status()
		require.Equal(t, grant.Withdrawn, st.GrantState)
		require.Equal(t, broker.KindGrantUnavailable, st.Err.Kind)
	})
}

func TestHeldIsSortedAndWithoutTokens(t *testing.T) {
	run(t, broker.Tunables{}, func(k *bench) {
		require.Equal(t, []broker.Held{}, k.b.Held(), "an empty list is no null")
		k.want("slack", "first")
		k.want("github", "first")
		k.vault.store("short", 40*time.Second)
		k.want("azure", "short")
		time.Sleep(time.Second)
		list := k.b.Held()
		require.Len(t, list, 3)
		require.Equal(t, []string{"azure", "github", "slack"}, []string{list[0].Service, list[1].Service, list[2].Service})
		require.Negative(t, list[0].NextRefresh, "too short a life")
		require.Equal(t, "fp-first", list[1].Fingerprint)
		require.Equal(t, "oauth2", list[1].CredentialType)
		require.Equal(t, k.start.Add(8*time.Hour).UTC(), list[1].ExpiresAt)
		require.Equal(t, time.Second+latency, list[1].Age)
		require.Equal(t, time.Second+latency, list[1].LastRead)
		require.Greater(t, list[1].NextRefresh, 7*time.Hour)
		k.at(42 * time.Second)
		require.Len(t, k.b.Held(), 2, "what expired is not held")
	})
}

func TestExplain(t *testing.T) {
	limited := vaultError(429, "BAD_REQUEST", "Rate limit exceeded")
	limited.RetryAfter = 40 * time.Second
	fault := func(err error) func(*bench) {
		return func(k *bench) {
			k.vault.fail(err)
			k.soon("github")
		}
	}
	for name, c := range map[string]struct {
		do    func(*bench)
		state string
		kind  broker.Kind // of the error that a read would get; 0 for none
		retry time.Duration
		says  []string
	}{
		"never asked": {func(*bench) {}, "unknown", 0, 0, []string{
			"Nothing is held: a read makes an exchange, unless its caller asked for too many unknown services", "never gave one for this name"}},
		"held": {func(k *bench) { k.want("github", "first") }, "held", 0, 0, []string{
			"confirmed by the vault 0s ago", "It is served for 7h59m55s, until shortly before it expires at 2000-01-01T08:00:00Z", "It is refreshed in 7h"}},
		"held and short": {func(k *bench) {
			k.vault.store("short", 40*time.Second)
			k.want("github", "short")
		}, "held", 0, 0, []string{"too short to be refreshed ahead"}},
		"held without expiry": {func(k *bench) {
			k.vault.store("first", 0)
			k.want("github", "first")
		}, "held", 0, 0, []string{"no expiry and counts as fresh for 5m0s"}},
		"stale": {func(k *bench) {
			k.vault.store("first", 0)
			k.want("github", "first")
			k.vault.fail(errServer)
			k.at(6 * time.Minute)
		}, "stale", 0, 0, []string{"no expiry and is stale", "at most until it is 1h0m0s old", "A refresh is due; the next read starts it"}},
		"rotation stuck": {func(k *bench) {
			k.vault.set(same("old", k.start.Add(time.Hour)))
			k.want("github", "old")
			k.at(56 * time.Minute)
		}, "held", 0, 0, []string{"still holds the same token although it should have been renewed: store a new one"}},
		"404":    {fault(errNotFound), "refused", broker.KindNotFound, 30 * time.Second, []string{"names are case-sensitive", "asked again in 30s"}},
		"403":    {fault(errForbidden), "refused", broker.KindForbidden, 5 * time.Minute, []string{"ask for a grant that does"}},
		"failed": {fault(errServer), "failing", broker.KindUpstream, 0, []string{"A read is refused: the vault failed: it answered 500"}},
		"failed while held": {func(k *bench) {
			k.want("github", "first")
			k.vault.fail(errServer)
			k.at(31 * time.Second)
			k.told(k.later(forced("uid:1", latency+50*ms)), broker.KindUpstream, latency)
		}, "held", 0, 0, []string{"The last exchange failed: the vault failed: it answered 500"}},
		"limited": {fault(limited), "failing", broker.KindRateLimited, 40 * time.Second, []string{"limit of exchanges is used up"}},
		"rejected": {func(k *bench) {
			k.vault.fail(errRejected)
			k.refuse("github", broker.KindUnauthorized)
		}, "withheld", broker.KindUnauthorized, time.Minute, []string{"rejected the grant token", "asked again in 1m0s at the earliest"}},
		"withdrawn": {func(k *bench) { k.b.SetGrant(grant.Snapshot{State: grant.Withdrawn}) },
			"withheld", broker.KindGrantUnavailable, 0, []string{"the grant file was removed"}},
		"known, and purged since": {func(k *bench) {
			k.vault.store("short", 20*time.Second)
			k.want("github", "short")
			k.at(30 * time.Second)
		}, "unknown", 0, 0, []string{"Nothing is held: a read makes an exchange."}},
		"withdrawn while held": {func(k *bench) {
			k.want("github", "first")
			k.b.SetGrant(grant.Snapshot{State: grant.Withdrawn})
			time.Sleep(20 * time.Second)
		}, "withheld", broker.KindGrantUnavailable, 0, []string{
			"It is kept and not served, and served again if the same grant returns within 40s."}},
		"suspected while held": {func(k *bench) {
			k.want("github", "first")
			answers := 0
			k.vault.set(func(string, string) (*upstream.Credential, error) {
				if answers++; answers == 1 {
					return nil, errRejected
				}
				return nil, errServer
			})
			_, err := k.get("slack")
			require.Error(k.t, err)
		}, "withheld", broker.KindUnauthorized, 0, []string{
			"It is kept and not served, and served again if the vault accepts the grant token"}},
		"past the grant's exp": {stepClock(100 * time.Hour), "withheld", broker.KindUnauthorized, 0, []string{"has expired: put a new one"}},
		"uncovered": {func(k *bench) { k.b.SetGrant(k.grant("jwt-2", "grnt-1", "slack:*")) },
			"uncovered", broker.KindForbidden, 0, []string{"one of *, github:*"}},
		"under way": {func(k *bench) {
			k.later(reader("github", "uid:1", time.Minute))
			time.Sleep(ms)
		}, "unknown", 0, 0, []string{"An exchange is under way"}},
		"waiting for a slot": {func(k *bench) {
			k.vault.opensAt(0, 20*time.Second, 0)
			k.later(reader("github", "uid:1", time.Minute))
			synctest.Wait()
		}, "unknown", 0, 0, []string{"An exchange waits for a slot of the budget, which comes in 20s."}},
	} {
		t.Run(name, func(t *testing.T) {
			run(t, broker.Tunables{}, func(k *bench) {
				c.do(k)
				before := k.vault.count()
				e := k.b.Explain("github")
				require.Equal(t, c.state, e.State)
				if c.kind == 0 {
					require.Nil(t, e.Err)
				} else {
					require.Equal(t, c.kind, e.Err.Kind)
				}
				if c.retry != 0 {
					require.Equal(t, c.retry, e.Retry)
				}
				summary := strings.Join(e.Summary, "\n")
				for _, says := range c.says {
					require.Contains(t, summary, says)
				}
				require.NotContains(t, summary, "jwt-", "no token")
				if e.State == "withheld" {
					require.NotContains(t, summary, "It is served for")
					require.NotContains(t, summary, "It is refreshed in")
				}
				synctest.Wait()
				require.Equal(t, before, k.vault.count(), "it starts nothing")
			})
		})
	}
}

func TestHeartbeat(t *testing.T) {
	run(t, broker.Tunables{}, func(k *bench) {
		for range 10 {
			require.NoError(t, k.b.Heartbeat(k.t.Context()))
		}
		k.stop()
		ctx, cancel := context.WithTimeout(k.t.Context(), time.Second)
		defer cancel()
		require.ErrorIs(t, k.b.Heartbeat(ctx), context.DeadlineExceeded, "the loop has ended")
	})
}

func TestHeartbeatsDoNotKeepTheLoopFromItsWork(t *testing.T) {
	run(t, broker.Tunables{}, func(k *bench) {
		done := k.later(reader("github", "uid:1", time.Second))
		for range 100 {
			require.NoError(t, k.b.Heartbeat(k.t.Context()))
		}
		k.gets(done, "first")
	})
}

func TestPrefetch(t *testing.T) {
	run(t, broker.Tunables{}, func(k *bench) {
		require.ErrorContains(t, k.b.Ready(), "github is still being fetched")
		k.at(latency)
		require.Nil(t, k.b.Ready())
		require.Equal(t, 2, k.vault.count())
		token, err := k.ask(reader("slack", "uid:1", 0))
		require.NoError(t, err, "it is there before anybody asks")
		require.Equal(t, "first", token)
		k.at(2 * time.Hour)
		require.Equal(t, 2, k.vault.count()-k.checks(), "once, and then like any other")
		require.Nil(t, k.b.Ready())

		k.b.SetGrant(k.grant("jwt-2", "grnt-2", "*"))
		require.NotNil(t, k.b.Ready())
		before := k.vault.count()
		k.at(2*time.Hour + latency)
		require.Nil(t, k.b.Ready())
		require.Equal(t, before+2, k.vault.count(), "again for another consent")
	}, prefetch("github", "slack"))
}

// checks counts the departures for the grant's sake.
func (k *bench) checks() int {
	n := 0
	for _, c := range k.vault.seen() {
		if c.class == upstream.ClassCheck {
			n++
		}
	}
	return n
}

func TestPrefetchOfWhatIsNotThere(t *testing.T) {
	run(t, broker.Tunables{}, func(k *bench) {
		k.vault.set(nil)
		k.at(time.Second)
		require.Nil(t, k.b.Ready(), "the vault has spoken")
		k.at(time.Hour)
		require.Equal(t, 1, k.vault.count(), "a name that does not exist costs one departure, not one in 30 s")
		require.Nil(t, k.b.Ready())
	}, prefetch("gihtub"))
}

func TestPrefetchOfWhatTheScopesCantCover(t *testing.T) {
	run(t, broker.Tunables{}, func(k *bench) {
		k.b.SetGrant(k.grant("jwt-2", "grnt-2", "slack:*"))
		k.at(time.Minute)
		require.Nil(t, k.b.Ready())
		require.Empty(t, k.b.Held())
	}, prefetch("github"))
}

func TestPrefetchKeepsTryingWithinTheCooldowns(t *testing.T) {
	run(t, broker.Tunables{}, func(k *bench) {
		k.vault.fail(errConnect)
		k.at(time.Minute)
		require.NotNil(t, k.b.Ready())
		require.InDelta(t, 7, k.vault.count(), 1, "both at once, and one after 1, 2, 4 … s")
		k.vault.store("back", time.Hour)
		k.at(3 * time.Minute)
		require.Nil(t, k.b.Ready())
		require.Len(t, k.b.Held(), 2)
	}, prefetch("github", "slack"))
}

func TestReconfigure(t *testing.T) {
	run(t, broker.Tunables{}, func(k *bench) {
		k.vault.set(nil)
		k.refuse("github", broker.KindNotFound)
		k.b.Reconfigure(broker.Tunables{RememberNotFound: time.Second, ConfirmInterval: time.Minute}, []string{"slack"})
		require.NotNil(t, k.b.Ready(), "what is to be prefetched now is not there yet")
		k.vault.store("first", time.Hour)
		k.at(latency + time.Second)
		require.Nil(t, k.b.Ready())
		k.refuse("github", broker.KindNotFound) // remembered as it was told
		k.at(31 * time.Second)
		k.want("github", "first")
		k.vault.set(nil)
		k.refuse("jira", broker.KindNotFound)
		k.at(33 * time.Second)
		k.vault.store("second", time.Hour)
		k.want("jira", "second")
		k.at(34 * time.Second)
		k.want("jira", "second")
		before := k.vault.count()
		k.at(33*time.Second + 50*time.Second - ms)
		require.Equal(t, before, k.vault.count())
		k.at(33*time.Second + 50*time.Second)
		require.Equal(t, before+1, k.vault.count(), "the check comes by the new interval, less the lead")
	})
}

func TestReadyIsTheGrants(t *testing.T) {
	run(t, broker.Tunables{}, func(k *bench) {
		require.Nil(t, k.b.Ready())
		k.b.SetGrant(grant.Snapshot{State: grant.Withdrawn})
		require.Equal(t, broker.KindGrantUnavailable, k.b.Ready().Kind)
		k.b.SetGrant(k.grant("jwt-1", "grnt-1", "*"))
		require.Nil(t, k.b.Ready())
	})
}

func TestNewRequiresItsParts(t *testing.T) {
	_, err := broker.New(broker.Options{})
	require.ErrorContains(t, err, "Upstream, Reread and Fingerprint")
}

// The zero values of what is optional work: the machine's clock, nothing
// rendered, nothing withheld, nothing logged.
func TestTheLeastOptions(t *testing.T) {
	k := &bench{t: t}
	full := newBench(t, broker.Tunables{}, func(o *broker.Options) {
		o.Clock, o.Render, o.Withhold, o.Logger = nil, nil, nil, nil
	})
	full.b.SetGrant(grant.Snapshot{State: grant.Withdrawn})
	_, err := full.b.Get(k.t.Context(), reader("github", "uid:1", time.Second))
	require.ErrorContains(t, err, "removed")
}

func TestDefaultTunables(t *testing.T) {
	d := broker.DefaultTunables()
	require.Equal(t, 5*time.Second, d.ExpiryMargin)
	require.InDelta(t, 0.2, d.RefreshFraction, 0)
	require.Equal(t, 12, d.BackgroundSlots)
	require.Equal(t, 4, d.UnknownNames)
	require.Equal(t, 1024, d.MaxServices)
	require.Equal(t, 10*time.Second, d.ConfirmLead)
}

// A lead as long as the interval would make each answer the reason of the next
// check.
func TestAShortConfirmIntervalDoesNotSpin(t *testing.T) {
	run(t, broker.Tunables{ConfirmInterval: 10 * time.Second}, func(k *bench) {
		for time.Since(k.start) < time.Minute {
			k.want("github", "first")
			time.Sleep(100 * ms)
		}
		require.InDelta(t, 12, k.vault.count(), 1)
	})
}

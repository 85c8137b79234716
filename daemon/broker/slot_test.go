package broker_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/grantexd/grantexd/daemon/broker"
	"github.com/grantexd/grantexd/upstream"
)

// told requires that a read was refused that soon, and returns its error.
func (k *bench) told(done <-chan outcome, kind broker.Kind, within time.Duration) *broker.Error {
	k.t.Helper()
	o := <-done
	var e *broker.Error
	require.ErrorAs(k.t, o.err, &e)
	require.Equal(k.t, kind, e.Kind, e.Message)
	require.LessOrEqual(k.t, o.took, within)
	return e
}

func TestASlotThatComesTooLateIsToldAtOnce(t *testing.T) {
	run(t, broker.Tunables{}, func(k *bench) {
		k.vault.opensAt(0, 40*time.Second, 0)
		e := k.told(k.later(reader("github", "uid:1", 40*time.Second)), broker.KindRateLimited, 0)
		require.Equal(t, 40*time.Second, e.RetryAfter)
		require.Contains(t, e.Message, "in 40s")
		require.Zero(t, k.b.Status().Flights, "and nothing departs for nobody")

		late := k.later(reader("slack", "uid:2", 40*time.Second+ms))
		patient := k.later(reader("github", "uid:1", 41*time.Second))
		synctest.Wait()
		e = k.told(k.later(reader("github", "uid:2", 10*time.Second)), broker.KindRateLimited, 0)
		require.Equal(t, 40*time.Second, e.RetryAfter, "who joins a flight that waits is told as well")
		require.Equal(t, 40*time.Second, k.b.Explain("github").WaitsFor)
		require.Equal(t, 40*time.Second+latency, k.gets(patient, "first"))
		k.told(late, broker.KindTimeout, 40*time.Second+ms)
	})
}

func TestAFlightThatNobodyWaitsForIsDropped(t *testing.T) {
	run(t, broker.Tunables{UnknownNames: 1}, func(k *bench) {
		k.vault.opensAt(0, 5*time.Second, 0)
		ctx, hangUp := context.WithCancel(k.t.Context())
		gone := make(chan error, 1)
		go func() {
			_, err := k.b.Get(ctx, reader("github", "uid:1", time.Minute))
			gone <- err
		}()
		synctest.Wait()
		next := k.later(reader("slack", "uid:1", time.Minute))
		synctest.Wait()
		require.Equal(t, 1, k.b.Status().Flights, "the caller has one place for unknown names")
		hangUp()
		require.ErrorIs(t, <-gone, context.Canceled)
		require.Equal(t, 5*time.Second+latency, k.gets(next, "first"))
		require.Equal(t, 1, k.vault.count(), "nothing left for the one that hung up")
		require.Zero(t, k.b.Status().Flights)
	})
}

func TestAFlightGoesOnAsLongAsOneCanWait(t *testing.T) {
	run(t, broker.Tunables{}, func(k *bench) {
		k.vault.opensAt(0, 20*time.Second, 0)
		ctx, hangUp := context.WithCancel(k.t.Context())
		first := make(chan error, 1)
		go func() {
			_, err := k.b.Get(ctx, reader("github", "uid:1", time.Minute))
			first <- err
		}()
		synctest.Wait()
		second := k.later(reader("github", "uid:2", time.Minute))
		k.at(time.Second)
		hangUp()
		require.Error(t, <-first)
		require.Equal(t, 20*time.Second+latency, k.gets(second, "first"))
		require.Equal(t, 1, k.vault.count())
	})
}

func TestAnEstimateThatGetsWorseIsToldAtOnce(t *testing.T) {
	run(t, broker.Tunables{}, func(k *bench) {
		k.vault.opensAt(0, 5*time.Second, 0)
		done := k.later(reader("github", "uid:1", 10*time.Second))
		k.at(time.Second)
		k.vault.opensAt(0, 30*time.Second, 0)
		// The fake budget looks again when the slot should have come.
		e := k.told(done, broker.KindRateLimited, 5*time.Second)
		require.Equal(t, 25*time.Second, e.RetryAfter)
	})
}

func TestWhoWouldNotWaitStartsNothing(t *testing.T) {
	run(t, broker.Tunables{}, func(k *bench) {
		for _, wait := range []time.Duration{0, -time.Second} {
			e := k.fails(reader("github", "uid:1", wait), broker.KindTimeout)
			require.Positive(t, e.RetryAfter)
		}
		k.at(time.Second)
		require.Zero(t, k.vault.count())
		k.want("github", "first")
		token, err := k.ask(reader("github", "uid:1", 0))
		require.NoError(t, err, "what is held is had at once")
		require.Equal(t, "first", token)
		require.Equal(t, 1, k.vault.count())
	})
}

// dueRefresh holds a credential without expiry whose refresh is due, read, and
// waits for a slot. It returns when the refresh was due.
func (k *bench) dueRefresh(refresh, miss time.Duration) time.Duration {
	k.vault.store("first", 0)
	k.want("github", "first")
	due := 5*time.Minute + latency
	k.vault.opensAt(due+refresh, due+miss, due+refresh)
	k.at(due + ms)
	require.Equal(k.t, 1, k.b.Status().Flights)
	require.Equal(k.t, 1, k.vault.count())
	return due
}

// slowChecks keeps the checks of the grant out of the way.
var slowChecks = broker.Tunables{ConfirmInterval: 24 * time.Hour}

func forced(caller string, wait time.Duration) broker.Request {
	return broker.Request{Service: "github", Caller: caller, Wait: wait, NoCache: true}
}

func TestACallerThatJoinsAWaitingRefreshIsTold(t *testing.T) {
	run(t, slowChecks, func(k *bench) {
		// A miss has to wait as long as the refresh does, so the budget has no
		// news when it becomes one.
		k.dueRefresh(40*time.Second, 40*time.Second)
		e := k.told(k.later(forced("uid:1", 10*time.Second)), broker.KindRateLimited, 100*ms)
		require.InDelta(t, 40, e.RetryAfter.Seconds(), 0.1)
		e = k.told(k.later(forced("uid:1", 10*time.Second)), broker.KindRateLimited, 0)
		require.InDelta(t, 40, e.RetryAfter.Seconds(), 0.1)
		require.Equal(t, 1, k.b.Status().Flights, "the refresh itself goes on waiting")
		k.vault.store("second", 0)
		k.gets(k.later(forced("uid:1", time.Minute)), "second")
	})
}

func TestACallerThatJoinsAWaitingRefreshMakesItUrgent(t *testing.T) {
	run(t, slowChecks, func(k *bench) {
		k.dueRefresh(10*time.Minute, 2*time.Second)
		k.vault.store("second", 0)
		var all []<-chan outcome
		for i := range 16 {
			all = append(all, k.later(forced(fmt.Sprint("uid:", i), 10*time.Second)))
		}
		for _, done := range all {
			require.Less(t, k.gets(done, "second"), 2*time.Second+latency)
		}
		calls := k.vault.seen()
		require.Len(t, calls, 2)
		require.Equal(t, upstream.ClassMiss, calls[1].class)
	})
}

func TestARefreshBecomesUrgentAMinuteBeforeTheExpiry(t *testing.T) {
	run(t, slowChecks, func(k *bench) {
		k.vault.store("first", time.Hour)
		k.want("github", "first")
		k.vault.opensAt(2*time.Hour, 0, 2*time.Hour)
		urgent := time.Hour - 5*time.Second - time.Minute
		k.at(urgent - ms)
		require.Equal(t, 1, k.vault.count(), "the refresh waits for a slot above the reserve")
		require.Equal(t, 1, k.b.Status().Flights)
		k.vault.store("second", 2*time.Hour)
		k.at(urgent + latency)
		k.want("github", "second")
		require.Equal(t, 2, k.vault.count())
	})
}

// outageWithRefreshAsProbe is an outage in which the first to ask again is a
// refresh that waits for a slot.
func (k *bench) outageWithRefreshAsProbe(refresh, miss time.Duration) {
	due := k.dueRefresh(refresh, miss) // drops out as the outage begins
	k.vault.slots(nil)
	k.vault.fail(errConnect)
	k.soon("slack")
	k.vault.opensAt(due+refresh, due+miss, due+refresh)
	k.at(due + 3*time.Second)
	require.Equal(k.t, 1, k.b.Status().Flights, "the refresh is the probe")
	k.vault.store("back", 0)
}

func TestAMissMakesTheProbeUrgent(t *testing.T) {
	run(t, slowChecks, func(k *bench) {
		k.outageWithRefreshAsProbe(10*time.Minute, 5*time.Second)
		require.Equal(t, 2*time.Second+2*latency, k.gets(k.later(reader("jira", "uid:1", 10*time.Second)), "back"))
	})
}

func TestAProbeThatComesTooLateIsToldAtOnce(t *testing.T) {
	run(t, slowChecks, func(k *bench) {
		k.outageWithRefreshAsProbe(10*time.Minute, 53*time.Second)
		e := k.told(k.later(reader("jira", "uid:1", 10*time.Second)), broker.KindUpstream, 100*ms)
		require.Equal(t, 50*time.Second, e.RetryAfter)
		e = k.told(k.later(reader("jira", "uid:1", 10*time.Second)), broker.KindUpstream, 0)
		require.Equal(t, 50*time.Second, e.RetryAfter)
	})
}

func TestADroppedProbeIsReplaced(t *testing.T) {
	run(t, slowChecks, func(k *bench) {
		k.vault.fail(errConnect)
		k.soon("slack")
		k.at(3 * time.Second)
		k.vault.opensAt(0, 8*time.Second, 0)
		k.vault.store("back", time.Hour)
		ctx, hangUp := context.WithCancel(k.t.Context())
		gone := make(chan error, 1)
		go func() {
			_, err := k.b.Get(ctx, reader("probe", "uid:1", time.Minute))
			gone <- err
		}()
		synctest.Wait()
		var all []<-chan outcome
		for i := range 8 {
			all = append(all, k.later(reader(fmt.Sprint("s", i), fmt.Sprint("uid:", i), 10*time.Second)))
		}
		synctest.Wait()
		require.Equal(t, 1, k.b.Status().Flights, "one probe for all")
		hangUp()
		require.Error(t, <-gone)
		for _, done := range all {
			require.LessOrEqual(t, k.gets(done, "back"), 5*time.Second+2*latency)
		}
		require.Equal(t, 1+8, k.vault.count(), "none for the one that hung up")
	})
}

// What waits for a slot as an outage begins does not leave, one after the other,
// into the same failure.
func TestAnOutageCallsBackWhatHasNotDeparted(t *testing.T) {
	run(t, broker.Tunables{}, func(k *bench) {
		k.vault.fail(errConnect)
		k.vault.slots(func(_ upstream.Class, service string) time.Duration {
			if service == "first" {
				return 0
			}
			return 20 * time.Second
		})
		var all []<-chan outcome
		for i := range 8 {
			all = append(all, k.later(reader(fmt.Sprint("s", i), fmt.Sprint("uid:", i), time.Minute)))
		}
		synctest.Wait()
		require.Equal(t, 8, k.b.Status().Flights)
		k.soon("first")
		k.at(3 * time.Second)
		require.Equal(t, 1, k.b.Status().Flights, "one probe waits for all")
		k.at(20*time.Second + latency)
		require.Equal(t, 2, k.vault.count())
		k.vault.store("back", time.Hour)
		back := 0
		for _, done := range all {
			if o := <-done; o.err == nil {
				back++
			}
		}
		require.Equal(t, 7, back, "all but the one that waited for the probe that failed")
	})
}

func TestTheSecondAskWaitsForASlot(t *testing.T) {
	run(t, broker.Tunables{}, func(k *bench) {
		k.want("github", "first")
		rejectOnce := errRejected
		k.vault.set(func(_, service string) (*upstream.Credential, error) {
			if rejectOnce != nil {
				rejectOnce = nil
				return nil, errRejected
			}
			return credential(service, "fine", time.Now().Add(time.Hour)), nil
		})
		k.at(time.Second)
		k.vault.opensAt(0, 0, 20*time.Second)
		patient := k.later(reader("slack", "uid:1", time.Minute))
		k.at(time.Second + latency + ms)
		require.Equal(t, broker.TrustSuspect, k.b.Status().Trust)
		e := k.told(k.later(reader("github", "uid:1", 10*time.Second)), broker.KindUnauthorized, 0)
		require.InDelta(t, 19, e.RetryAfter.Seconds(), 0.2)
		other := k.later(reader("github", "uid:1", 30*time.Second))
		k.gets(patient, "fine")
		k.gets(other, "first")
		require.Equal(t, 20*time.Second+latency, time.Since(k.start))
		require.Equal(t, 3, k.vault.count())
	})
}

// Callers that wait for the second ask are told when it gets a slot too late,
// though they wait for no flight of their own.
func TestTheSecondAsksLateSlotIsToldToAll(t *testing.T) {
	run(t, broker.Tunables{}, func(k *bench) {
		k.want("github", "first")
		k.vault.fail(errRejected)
		k.at(time.Second)
		k.vault.opensAt(0, 0, 3*time.Second)
		asker := k.later(reader("slack", "uid:1", 10*time.Second))
		k.at(time.Second + latency + ms)
		waiting := k.later(reader("github", "uid:1", 10*time.Second))
		synctest.Wait()
		k.vault.opensAt(0, 0, time.Minute)
		k.told(asker, broker.KindUnauthorized, 2*time.Second)
		e := k.told(waiting, broker.KindUnauthorized, 2*time.Second)
		require.Equal(t, 57*time.Second, e.RetryAfter)
	})
}

func TestASuspicionCallsBackWhatHasNotDeparted(t *testing.T) {
	run(t, broker.Tunables{}, func(k *bench) {
		k.vault.slots(func(_ upstream.Class, service string) time.Duration {
			if service == "slack" {
				return 0
			}
			return 10 * time.Second
		})
		waiting := k.later(reader("github", "uid:2", time.Minute))
		synctest.Wait()
		answers := []error{errRejected, errServer, errServer, errServer, errServer, errServer}
		k.vault.set(func(_, service string) (*upstream.Credential, error) {
			if len(answers) == 0 {
				return credential(service, "fine", time.Now().Add(time.Hour)), nil
			}
			err := answers[0]
			answers = answers[1:]
			return nil, err
		})
		k.soon("slack")
		k.gets(waiting, "fine")
		for i, c := range k.vault.seen() {
			require.Equal(t, i == 7, c.service == "github", "a suspected token departs for nothing but to clear it: %v", c)
		}
	})
}

func TestStoppingEndsEveryFlightAtOnce(t *testing.T) {
	run(t, broker.Tunables{}, func(k *bench) {
		k.vault.delay = time.Hour
		abandoned := k.later(reader("github", "uid:1", time.Minute))
		k.at(time.Second)
		k.b.SetGrant(k.grant("jwt-2", "grnt-2", "*"))
		synctest.Wait()
		require.Equal(t, 2, k.vault.count(), "the first one is out of the books and still flies")
		k.stop()
		require.Equal(t, time.Second, time.Since(k.start))
		var e *broker.Error
		require.ErrorAs(t, (<-abandoned).err, &e)
		require.Contains(t, e.Message, "stopping")
		_, err := k.ask(reader("slack", "uid:1", time.Minute))
		require.ErrorContains(t, err, "stopping")
	})
}

func TestAReadThatPausesEndsWithItsCaller(t *testing.T) {
	run(t, broker.Tunables{}, func(k *bench) {
		k.vault.fail(errConnect)
		k.soon("github")
		ctx, hangUp := context.WithTimeout(k.t.Context(), 100*ms)
		defer hangUp()
		_, err := k.b.Get(ctx, reader("github", "uid:1", 10*time.Second))
		require.ErrorIs(t, err, context.DeadlineExceeded)
	})
}

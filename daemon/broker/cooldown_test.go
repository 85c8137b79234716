package broker_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/grantexd/grantexd/daemon/broker"
	"github.com/grantexd/grantexd/upstream"
)

// soon is a read whose caller can't wait for the end of any cool-down.
func (k *bench) soon(service string) *broker.Error {
	k.t.Helper()
	_, err := k.ask(broker.Request{Service: service, Caller: "uid:1000", Wait: latency + 50*ms})
	var e *broker.Error
	require.ErrorAs(k.t, err, &e)
	return e
}

func TestFailuresAreAskedEverMoreSeldom(t *testing.T) {
	for name, err := range map[string]error{
		"500":         errServer,
		"418":         vaultError(418, "TEAPOT", "I'm a teapot"),
		"malformed":   &upstream.MalformedError{URL: "https://vault.test", Reason: "no accessToken"},
		"unreachable": errConnect,
		"timeout":     fmt.Errorf("asking: %w", upstream.ErrTimeout),
		"bad path":    errBadPath,
	} {
		t.Run(name, func(t *testing.T) {
			run(t, broker.Tunables{}, func(k *bench) {
				k.vault.fail(err)
				for time.Since(k.start) < 10*time.Minute {
					k.soon("github")
					time.Sleep(100 * ms)
				}
				calls := k.vault.seen()
				for i := 1; i < len(calls); i++ {
					gap := (calls[i].at - calls[i-1].at - latency).Seconds()
					want := min(float64(int(1)<<(i-1)), 60)
					require.GreaterOrEqual(t, gap, 0.75*want, "gap %d", i)
					require.LessOrEqual(t, gap, 1.25*want+0.4, "gap %d", i)
				}
				require.Greater(t, len(calls), 10)
			})
		})
	}
}

func TestOneServiceFailingLeavesTheOthersAlone(t *testing.T) {
	run(t, broker.Tunables{}, func(k *bench) {
		k.vault.set(func(_, service string) (*upstream.Credential, error) {
			if service == "broken" {
				return nil, errServer
			}
			return credential(service, "fine", time.Now().Add(time.Hour)), nil
		})
		k.soon("broken")
		k.want("github", "fine")
		k.want("slack", "fine")
	})
}

func TestTwoServicesFailingInARowCoolAll(t *testing.T) {
	run(t, broker.Tunables{}, func(k *bench) {
		k.vault.fail(errServer)
		k.soon("a")
		k.soon("b")
		e := k.soon("c")
		require.Equal(t, broker.KindUpstream, e.Kind)
		require.Equal(t, 500, e.UpstreamStatus, "the original failure is reported")
		require.Equal(t, 2, k.vault.count(), "c was not asked")
		require.Positive(t, e.RetryAfter)
	})
}

func TestOneProbeFliesForAllAfterAnOutage(t *testing.T) {
	run(t, broker.Tunables{}, func(k *bench) {
		k.vault.fail(errConnect)
		k.soon("github")
		results := make(chan error)
		for i := range 16 {
			go func() {
				_, err := k.ask(broker.Request{Service: fmt.Sprint("s", i), Caller: fmt.Sprint("uid:", i), Wait: 20 * time.Second})
				results <- err
			}()
		}
		k.at(10 * time.Second)
		failed := k.vault.count()
		require.LessOrEqual(t, failed, 5, "1, 2, 4 s: one probe each, not sixteen")
		k.vault.store("back", time.Hour)
		for range 16 {
			// The waiters of a probe that failed were told so; the others got
			// theirs once one succeeded.
			<-results
		}
		n := k.vault.count()
		k.want("github", "back")
		require.LessOrEqual(t, k.vault.count()-n, 1)
	})
}

func TestCachedCredentialsSurviveAnOutage(t *testing.T) {
	run(t, broker.Tunables{}, func(k *bench) {
		k.vault.store("first", time.Hour)
		k.want("github", "first")
		k.vault.fail(errServer)
		for time.Since(k.start) < time.Hour-6*time.Second {
			k.want("github", "first")
			time.Sleep(time.Second)
		}
		require.LessOrEqual(t, k.vault.count(), 75, "refresh and check retries are held by the cool-down")
		k.at(time.Hour)
		_, err := k.get("github")
		require.Error(t, err)
	})
}

func TestAMissWaitsForTheEndOfACooldown(t *testing.T) {
	run(t, broker.Tunables{}, func(k *bench) {
		k.vault.fail(errServer)
		k.soon("github")
		k.vault.store("back", time.Hour)
		k.want("github", "back")
		require.Less(t, time.Since(k.start), 1500*ms+2*latency)
	})
}

func TestAFailureThatWaitingCantMendIsToldAtOnce(t *testing.T) {
	limited := vaultError(429, "BAD_REQUEST", "Rate limit exceeded, retry in 40 seconds")
	limited.RetryAfter = 40 * time.Second
	run(t, broker.Tunables{}, func(k *bench) {
		k.vault.fail(limited)
		k.soon("github")
		before := time.Now()
		e := k.refuse("slack", broker.KindRateLimited)
		require.Zero(t, time.Since(before))
		require.Equal(t, 40*time.Second, e.RetryAfter)
		k.told(k.later(reader("slack", "uid:1", 40*time.Second)), broker.KindRateLimited, 0)
		k.vault.store("back", time.Hour)
		token, err := k.ask(broker.Request{Service: "slack", Caller: "uid:1", Wait: time.Minute})
		require.NoError(t, err, "who can wait, waits")
		require.Equal(t, "back", token)
		require.Equal(t, 40*time.Second+2*latency, time.Since(k.start))
	})
}

func TestAProxysRefusalEvictsNothing(t *testing.T) {
	for _, status := range []int{403, 404, 401} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			run(t, broker.Tunables{}, func(k *bench) {
				k.want("github", "first")
				k.vault.fail(&upstream.Error{Status: status, URL: "https://vault.test"})
				k.at(time.Minute)
				k.told(k.later(forced("uid:1", time.Second)), broker.KindUpstream, latency)
				k.want("github", "first")
			})
		})
	}
}

func TestAHangingVault(t *testing.T) {
	run(t, broker.Tunables{}, func(k *bench) {
		k.vault.delay = time.Hour
		e := k.refuse("github", broker.KindTimeout)
		require.Equal(t, 10*time.Second, time.Since(k.start), "the caller's own deadline")
		require.Contains(t, e.Message, "wait longer")
		_, err := k.ask(broker.Request{Service: "github", Caller: "uid:1", Wait: time.Minute})
		require.ErrorContains(t, err, "did not answer in time")
		require.Equal(t, 15*time.Second, time.Since(k.start), "the flight's deadline")
		require.Equal(t, 1, k.vault.count())
	})
}

func TestACallerThatLeavesDoesNotFailTheOthers(t *testing.T) {
	run(t, broker.Tunables{}, func(k *bench) {
		k.vault.delay = 5 * time.Second
		go func() { _, _ = k.ask(broker.Request{Service: "github", Caller: "uid:1", Wait: time.Second}) }()
		time.Sleep(ms)
		k.want("github", "first")
		require.Equal(t, 1, k.vault.count())
	})
}

package broker_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/grantexd/grantexd/daemon/broker"
	"github.com/grantexd/grantexd/upstream"
)

// readAll reads all services once, and waits for no cool-down.
func (k *bench) readAll(services int) {
	for i := range services {
		_, _ = k.ask(reader(fmt.Sprint("s", i), fmt.Sprint("uid:", i), latency+50*ms))
	}
}

// failing answers as the map says of the service, and well where it says nothing.
func failing(faults map[string]error) func(string, string) (*upstream.Credential, error) {
	return func(_, service string) (*upstream.Credential, error) {
		if err := faults[service]; err != nil {
			return nil, err
		}
		return credential(service, "fine", time.Now().Add(10*time.Minute)), nil
	}
}

func TestAnOutageIsTwoLinesInTheLog(t *testing.T) {
	for name, err := range map[string]error{"unreachable": errConnect, "500": errServer, "502 of a proxy": &upstream.Error{Status: 502}} {
		t.Run(name, func(t *testing.T) {
			run(t, broker.Tunables{}, func(k *bench) {
				k.vault.fail(err)
				for time.Since(k.start) < time.Hour {
					k.readAll(12)
					time.Sleep(time.Second)
				}
				require.Len(t, k.log.with("WARN"), 1)
				require.Empty(t, k.log.with("INFO"))
				failed := k.vault.count()
				require.Greater(t, failed, 60)
				k.vault.store("back", time.Hour)
				k.at(time.Hour + 2*time.Minute)
				k.readAll(12)
				require.Len(t, k.log.with("WARN"), 1)
				end := k.log.with("INFO", "answers again")
				require.Len(t, end, 1)
				require.Contains(t, end[0], fmt.Sprintf(`"failures":%d`, failed))
			})
		})
	}
}

func TestOneServiceFailingForeverWhileOthersWork(t *testing.T) {
	run(t, broker.Tunables{}, func(k *bench) {
		faults := map[string]error{"s0": errServer}
		k.vault.set(failing(faults))
		work := func(until time.Duration) {
			for time.Since(k.start) < until {
				k.readAll(6)
				time.Sleep(10 * time.Second)
			}
		}
		work(2 * time.Hour)
		require.Len(t, k.log.with("WARN"), 1, "that it fails")
		require.Empty(t, k.log.with("INFO"))
		st := k.b.Status()
		require.Contains(t, st.LastError, "500")
		require.Greater(t, st.Failing, time.Hour)
		require.Less(t, st.LastSuccess, 10*time.Minute)

		// A real outage in the midst of it has its own two lines.
		k.vault.change(func() {
			for i := range 6 {
				faults[fmt.Sprint("s", i)] = errConnect
			}
		})
		work(3 * time.Hour)
		require.Len(t, k.log.with("WARN"), 2)
		require.Len(t, k.log.with("WARN", "can't be reached"), 1)
		k.vault.change(func() { clear(faults) })
		work(4 * time.Hour)
		require.Len(t, k.log.with("WARN"), 2)
		require.Len(t, k.log.with("INFO", "answers again"), 1)
		require.Empty(t, k.b.Status().LastError)
	})
}

func TestTheEndOfAnOutageIsTheEndForAll(t *testing.T) {
	run(t, broker.Tunables{}, func(k *bench) {
		faults := map[string]error{"a": errServer, "b": errConnect}
		k.vault.set(failing(faults))
		for range 5 {
			k.soon("a")
			time.Sleep(k.b.Explain("a").Retry)
		}
		e := k.soon("a")
		require.Greater(t, e.RetryAfter, 20*time.Second)
		began := time.Now()
		k.soon("b")
		k.vault.change(func() { clear(faults) })
		time.Sleep(2 * time.Second)
		k.want("c", "fine")
		k.want("a", "fine")
		require.Less(t, time.Since(began), 3*time.Second)
	})
}

func TestAServiceThatFailedAloneIsToldToWork(t *testing.T) {
	run(t, broker.Tunables{}, func(k *bench) {
		faults := map[string]error{"s0": errServer}
		k.vault.set(failing(faults))
		k.readAll(3)
		require.Equal(t, "failing", k.b.Explain("s0").State)
		k.vault.change(func() { clear(faults) })
		k.at(5 * time.Second)
		k.want("s0", "fine")
		lines := k.log.with("INFO", "answers again")
		require.Len(t, lines, 1)
		require.Contains(t, lines[0], `"service":"s0"`)
		require.Contains(t, lines[0], `"failures":1`)
		require.Empty(t, k.b.Status().LastError)
	})
}

// Services that fail one after the other, with successes between, are told of
// once a minute at most.
func TestServicesFailingOneByOne(t *testing.T) {
	run(t, broker.Tunables{}, func(k *bench) {
		k.vault.set(func(_, service string) (*upstream.Credential, error) {
			if service != "good" {
				return nil, errServer
			}
			return credential(service, "fine", time.Now().Add(6*time.Second)), nil
		})
		for i := range 300 {
			k.soon(fmt.Sprint("bad", i))
			_, _ = k.ask(reader("good", "uid:1", time.Second))
			k.at(time.Duration(i+1) * 2 * time.Second)
		}
		require.InDelta(t, 10, len(k.log.with("WARN")), 1)
		require.Empty(t, k.log.with("INFO"))
	})
}

func TestAFailureThatNobodyRepeatsIsForgotten(t *testing.T) {
	run(t, broker.Tunables{}, func(k *bench) {
		k.vault.fail(errServer)
		k.soon("github")
		k.at(10 * time.Minute)
		require.NotEmpty(t, k.b.Status().LastError)
		k.at(11 * time.Minute)
		require.Empty(t, k.b.Status().LastError)
	})
}

func TestAnHourOf429sIsAFewLines(t *testing.T) {
	limited := vaultError(429, "BAD_REQUEST", "Rate limit exceeded, retry in 40 seconds")
	limited.RetryAfter = 40 * time.Second
	run(t, broker.Tunables{}, func(k *bench) {
		k.vault.fail(limited)
		for time.Since(k.start) < time.Hour {
			k.soon("github")
			time.Sleep(time.Second)
		}
		require.InDelta(t, 90, k.vault.count(), 5)
		lines := k.log.with("WARN", "limit of exchanges")
		require.InDelta(t, 6, len(lines), 1)
		require.Len(t, k.log.with("WARN"), len(lines))
		require.Empty(t, k.b.Status().LastError, "it works, but for others")
		require.Positive(t, k.b.Status().Limited)
	})
}

func TestA429ThatDoesNotSayOrSaysTooMuch(t *testing.T) {
	for name, c := range map[string]struct{ asks, waits time.Duration }{
		"nothing": {0, time.Minute}, "a day": {24 * time.Hour, 10 * time.Minute}, "a second": {time.Second, time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			limited := vaultError(429, "BAD_REQUEST", "Rate limit exceeded")
			limited.RetryAfter = c.asks
			run(t, broker.Tunables{}, func(k *bench) {
				k.vault.fail(limited)
				require.Equal(t, c.waits, k.soon("github").RetryAfter)
				k.vault.store("back", time.Hour)
				k.at(latency + c.waits - ms)
				require.Equal(t, broker.KindRateLimited, k.fails(reader("slack", "uid:1", 0), broker.KindRateLimited).Kind)
				k.at(latency + c.waits)
				k.want("slack", "back")
			})
		})
	}
}

func TestA429DuringASuspicionOrOutageEndsNeither(t *testing.T) {
	limited := vaultError(429, "BAD_REQUEST", "Rate limit exceeded")
	limited.RetryAfter = 20 * time.Second
	run(t, broker.Tunables{}, func(k *bench) {
		k.vault.fail(errConnect)
		k.soon("github")
		k.vault.fail(limited)
		k.at(3 * time.Second)
		k.soon("github")
		require.Contains(t, k.b.Status().LastError, "can't be reached")
		k.vault.store("back", time.Hour)
		k.at(24 * time.Second)
		k.want("github", "back")
		require.Empty(t, k.b.Status().LastError)
	})
}

// The probe's own service is not the only one that gets something of its
// success, and its failure is not repeated by those who waited for it.
func TestWhoWaitsForAProbe(t *testing.T) {
	run(t, broker.Tunables{}, func(k *bench) {
		k.vault.fail(errConnect)
		k.soon("github")
		k.at(3 * time.Second)
		k.vault.delay = 2 * time.Second
		probe := k.later(reader("github", "uid:1", 10*time.Second))
		time.Sleep(ms)
		short := k.later(reader("slack", "uid:1", time.Second))
		long := k.later(reader("slack", "uid:1", 20*time.Second))
		e := k.told(short, broker.KindUpstream, time.Second)
		require.Equal(t, time.Second, e.RetryAfter, "the original failure, when its time is over")
		k.told(probe, broker.KindUpstream, 2*time.Second)
		k.vault.store("back", time.Hour)
		k.gets(long, "back")
		require.Equal(t, 3, k.vault.count())
	})
}

func TestRefreshesKeepToTheCooldowns(t *testing.T) {
	run(t, slowChecks, func(k *bench) {
		k.vault.store("first", 0)
		k.want("github", "first")
		k.want("slack", "first")
		k.vault.fail(errServer)
		for time.Since(k.start) < 50*time.Minute {
			k.want("github", "first")
			k.want("slack", "first")
			time.Sleep(time.Second)
		}
		// From 5 min on: 1, 2, 4 … 60 s, and then one a minute for both of them.
		require.InDelta(t, 2+6+44, k.vault.count(), 5)
	})
}

func TestNoCacheWhileTheVaultFails(t *testing.T) {
	run(t, slowChecks, func(k *bench) {
		k.want("github", "first")
		k.vault.fail(errServer)
		k.at(31 * time.Second)
		begin := time.Since(k.start)
		k.told(k.later(forced("uid:1", time.Second)), broker.KindUpstream, latency)
		served := 0
		for time.Since(k.start) < begin+10*time.Minute {
			if token, err := k.ask(forced("uid:1", latency+50*ms)); err == nil {
				require.Equal(t, "first", token)
				served++
			}
			time.Sleep(time.Second)
		}
		require.Greater(t, served, 100)
		calls := k.vault.seen()[1:]
		require.Greater(t, len(calls), 5)
		for i := 1; i < len(calls); i++ {
			require.GreaterOrEqual(t, calls[i].at-calls[i-1].at, 30*time.Second, "one exchange in 30 s, failed or not")
		}
	})
}

func TestReportsWhileTheVaultFails(t *testing.T) {
	run(t, slowChecks, func(k *bench) {
		k.want("github", "first")
		k.vault.fail(errServer)
		k.at(time.Minute)
		_, err := k.report("uid:1", "fp-first", time.Second)
		require.ErrorContains(t, err, "500")
		k.at(65 * time.Second)
		_, err = k.report("uid:1", "fp-first", time.Second)
		require.ErrorContains(t, err, "500", "the cool-down is over, the spacing is not")
		require.Equal(t, 2, k.vault.count())
		k.vault.store("second", time.Hour)
		k.at(91 * time.Second)
		token, err := k.report("uid:1", "fp-first", time.Second)
		require.NoError(t, err, "a report that could not be judged costs nothing")
		require.Equal(t, "second", token)
	})
}

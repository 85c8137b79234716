package broker_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/grantexd/grantexd/daemon/broker"
)

func TestFirstReadExchangesAndLaterOnesHit(t *testing.T) {
	run(t, broker.Tunables{}, func(k *bench) {
		for range 100 {
			k.want("github", "first")
		}
		require.Equal(t, 1, k.vault.count())
	})
}

func TestManyCallersShareOneFlight(t *testing.T) {
	run(t, broker.Tunables{}, func(k *bench) {
		results := make(chan error)
		for i := range 64 {
			go func() {
				_, err := k.ask(broker.Request{Service: "github", Caller: fmt.Sprint("uid:", i), Wait: time.Second})
				results <- err
			}()
		}
		for range 64 {
			require.NoError(t, <-results)
		}
		require.Equal(t, 1, k.vault.count())
	})
}

func TestManyCallersShareOneFailure(t *testing.T) {
	limited := vaultError(429, "BAD_REQUEST", "Rate limit exceeded, retry in 40 seconds")
	limited.RetryAfter = 40 * time.Second
	run(t, broker.Tunables{}, func(k *bench) {
		k.vault.fail(limited)
		k.vault.delay = 10 * time.Millisecond
		results := make(chan error)
		for range 64 {
			go func() {
				_, err := k.get("github")
				results <- err
			}()
		}
		for range 64 {
			var e *broker.Error
			require.ErrorAs(t, <-results, &e)
			require.Equal(t, broker.KindRateLimited, e.Kind)
			require.Equal(t, 40*time.Second, e.RetryAfter)
		}
		require.Less(t, time.Since(k.start), 100*time.Millisecond)
		require.Equal(t, 1, k.vault.count())
	})
}

func TestColdStartOfTwentyServicesByOneCaller(t *testing.T) {
	run(t, broker.Tunables{}, func(k *bench) {
		results := make(chan error)
		for i := range 20 {
			go func() {
				_, err := k.get(fmt.Sprint("service", i))
				results <- err
			}()
		}
		for range 20 {
			require.NoError(t, <-results)
		}
		require.Less(t, time.Since(k.start), time.Second)
		require.Equal(t, 20, k.vault.count())
	})
}

func TestInventedNamesCostTheirCallerOnly(t *testing.T) {
	run(t, broker.Tunables{}, func(k *bench) {
		k.vault.set(nil)
		results := make(chan error)
		for i := range 1000 {
			go func() {
				_, err := k.get(fmt.Sprint("invented", i))
				results <- err
			}()
		}
		refused := map[broker.Kind]int{}
		for range 1000 {
			var e *broker.Error
			require.ErrorAs(t, <-results, &e)
			refused[e.Kind]++
		}
		require.Equal(t, map[broker.Kind]int{broker.KindNotFound: 4, broker.KindRateLimited: 996}, refused)
		require.Less(t, time.Since(k.start), 500*time.Millisecond)
		require.Equal(t, 4, k.vault.count())

		k.vault.store("theirs", time.Hour)
		_, err := k.ask(broker.Request{Service: "github", Caller: "uid:2000", Wait: time.Second})
		require.NoError(t, err, "another uid's first miss is not delayed")

		k.at(61*time.Second + 50*time.Millisecond)
		_, err = k.ask(broker.Request{Service: "invented999", Caller: "uid:1000", Wait: time.Millisecond})
		require.ErrorContains(t, err, "too many services")
		k.at(61*time.Second + 150*time.Millisecond)
		k.want("invented999", "theirs")
	})
}

func TestNoCacheMakesOneExchangeInThirtySeconds(t *testing.T) {
	run(t, broker.Tunables{}, func(k *bench) {
		k.want("github", "first")
		k.vault.store("second", time.Hour)
		noCache := broker.Request{Service: "github", Caller: "uid:1000", Wait: time.Second, NoCache: true}
		k.at(30*time.Second + latency - time.Millisecond)
		for range 1000 {
			token, err := k.ask(noCache)
			require.NoError(t, err)
			require.Equal(t, "first", token)
		}
		k.at(30*time.Second + latency)
		for range 1000 {
			token, err := k.ask(noCache)
			require.NoError(t, err)
			require.Equal(t, "second", token)
		}
		require.Equal(t, 2, k.vault.count())
	})
}

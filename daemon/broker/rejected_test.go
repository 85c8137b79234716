package broker_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/grantexd/grantexd/daemon/broker"
)

func (k *bench) report(uid, fingerprint string, wait time.Duration) (string, error) {
	a, err := k.b.Rejected(k.t.Context(), broker.Request{Service: "github", Caller: uid, Wait: wait}, fingerprint)
	if err != nil {
		return "", err
	}
	return a.Rendered.(string), nil
}

func TestManyReportsOfOneDeadTokenCauseOneRefresh(t *testing.T) {
	run(t, broker.Tunables{}, func(k *bench) {
		k.want("github", "first")
		k.at(time.Minute)
		k.vault.store("second", time.Hour)
		results := make(chan string)
		for range 64 {
			go func() {
				token, err := k.report("uid:1", "fp-first", time.Second)
				require.NoError(t, err)
				results <- token
			}()
		}
		for range 64 {
			require.Equal(t, "second", <-results)
		}
		token, err := k.report("uid:1", "fp-first", 0)
		require.NoError(t, err, "a report of a token no longer held gets the new one at once")
		require.Equal(t, "second", token)
		require.Equal(t, 2, k.vault.count())
	})
}

func TestReportsOfAFreshTokenWaitForThirtySeconds(t *testing.T) {
	run(t, broker.Tunables{}, func(k *bench) {
		k.want("github", "first")
		k.vault.store("second", time.Hour)
		_, err := k.report("uid:1", "fp-first", time.Second)
		var e *broker.Error
		require.ErrorAs(t, err, &e)
		require.Equal(t, broker.KindRateLimited, e.Kind)
		require.Equal(t, 30*time.Second, e.RetryAfter)
		token, err := k.report("uid:1", "fp-first", time.Minute)
		require.NoError(t, err)
		require.Equal(t, "second", token)
		require.Equal(t, 30*time.Second+2*latency, time.Since(k.start))
	})
}

func TestFalseReportsCostTheirReporterAGrowingWait(t *testing.T) {
	run(t, broker.Tunables{}, func(k *bench) {
		k.want("github", "first")
		k.at(time.Minute)
		var waits []time.Duration
		for range 6 {
			_, err := k.report("uid:1", "fp-first", time.Second)
			require.NoError(t, err)
			_, err = k.report("uid:1", "fp-first", time.Second)
			var e *broker.Error
			require.ErrorAs(t, err, &e)
			require.Contains(t, e.Message, "still holds the credential")
			waits = append(waits, e.RetryAfter)
			k.want("github", "first")
			time.Sleep(e.RetryAfter)
		}
		require.Equal(t, []time.Duration{
			time.Minute, 2 * time.Minute, 4 * time.Minute, 8 * time.Minute, 10 * time.Minute, 10 * time.Minute,
		}, waits)
		k.vault.store("second", time.Hour)
		token, err := k.report("uid:2", "fp-first", time.Second)
		require.NoError(t, err, "nobody else pays")
		require.Equal(t, "second", token)
		k.vault.store("third", time.Hour)
		token, err = k.report("uid:1", "fp-second", time.Minute)
		require.NoError(t, err, "the vault had a new one after all: that is forgiven")
		require.Equal(t, "third", token)
	})
}

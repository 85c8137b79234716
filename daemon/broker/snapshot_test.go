package broker_test

import (
	"encoding/json"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/grantexd/grantexd/daemon/broker"
	"github.com/grantexd/grantexd/daemon/grant"
)

// bent returns the snapshot with its fields, or those of its first entry,
// replaced.
func bent(t *testing.T, content []byte, fields, entry map[string]any) []byte {
	t.Helper()
	var all map[string]any
	require.NoError(t, json.Unmarshal(content, &all))
	for name, value := range fields {
		require.Contains(t, all, name)
		all[name] = value
	}
	entries := all["entries"].([]any)
	for name, value := range entry {
		require.Contains(t, entries[0], name)
		entries[0].(map[string]any)[name] = value
	}
	out, err := json.Marshal(all)
	require.NoError(t, err)
	return out
}

// next is the broker of the process that follows.
func (k *bench) next() *bench {
	k.t.Helper()
	return newBenchOn(k.t, broker.Tunables{}, k.vault, k.clock)
}

func TestRestoreRefusesWhatIsNotWhole(t *testing.T) {
	run(t, broker.Tunables{}, func(k *bench) {
		k.want("github", "first")
		k.want("slack", "first")
		content := k.b.Snapshot()
		for name, entry := range map[string]map[string]any{
			"no token":               {"token": ""},
			"a name that is none":    {"service": "../github"},
			"stored in the future":   {"stored": int64(100 * time.Hour)},
			"stored before the boot": {"stored": -1},
			"asked in the future":    {"tried": int64(100 * time.Hour)},
			"read in the future":     {"read": int64(100 * time.Hour)},
			"read before the boot":   {"read": math.MinInt64},
			"metadata is no object":  {"metadata": "x"},
			"a negative refresh":     {"refresh": -1},
			"a negative renewal":     {"renew": -1},
			"a type of another kind": {"type": 7},
		} {
			next := k.next()
			n, err := next.b.Restore(bent(t, content, nil, entry))
			require.ErrorIs(t, err, broker.ErrSnapshotCorrupt, name)
			require.NotContains(t, err.Error(), "first")
			require.Zero(t, n, name)
			require.Empty(t, next.b.Held(), "all or nothing: %s", name)
		}
	})
}

// Numbers that no exchange could have given are cut to what one could.
func TestRestoreBelievesNoDeadlineTooFarAway(t *testing.T) {
	far := map[string]any{"deadline": int64(math.MaxInt64), "fresh": int64(math.MaxInt64)}
	for name, c := range map[string]struct{ life, ends time.Duration }{
		"with an expiry":    {time.Minute, 55 * time.Second},
		"without an expiry": {0, time.Hour + latency},
	} {
		t.Run(name, func(t *testing.T) {
			run(t, broker.Tunables{}, func(k *bench) {
				k.vault.store("first", c.life)
				k.want("github", "first")
				next := k.next()
				n, err := next.b.Restore(bent(t, k.b.Snapshot(), nil, far))
				require.NoError(t, err)
				require.Equal(t, 1, n)
				require.LessOrEqual(t, next.b.Held()[0].TTL, c.ends)
				k.stop()
				k.at(c.ends - ms)
				require.Len(t, next.b.Held(), 1)
				k.at(c.ends)
				require.Empty(t, next.b.Held())
			})
		})
	}
}

func TestRestoreKeepsWhatWasNear(t *testing.T) {
	run(t, broker.Tunables{}, func(k *bench) {
		k.vault.store("first", time.Hour)
		k.want("github", "first")
		k.at(time.Minute)
		// The wall clock is set back while no process is there.
		content := k.b.Snapshot()
		before := k.b.Held()[0]
		k.clock.Step(-30 * time.Minute)
		next := k.next()
		n, err := next.b.Restore(content)
		require.NoError(t, err)
		require.Equal(t, 1, n)
		require.Equal(t, before, next.b.Held()[0], "nothing lives longer for that, and nothing else changed")
		require.Equal(t, k.b.Status().Confirmed, next.b.Status().Confirmed)
		k.stop()
		k.at(time.Hour - 5*time.Second - ms)
		require.Len(t, next.b.Held(), 1)
		k.at(time.Hour - 5*time.Second)
		require.Empty(t, next.b.Held())
	})
}

func TestRestoreChangesNothing(t *testing.T) {
	run(t, broker.Tunables{}, func(k *bench) {
		for service, life := range map[string]time.Duration{"long": time.Hour, "short": 50 * time.Second, "endless": 0} {
			k.vault.store("first", life)
			k.want(service, "first")
		}
		k.at(20 * time.Second)
		next := k.next()
		n, err := next.b.Restore(k.b.Snapshot())
		require.NoError(t, err)
		require.Equal(t, 3, n)
		require.Equal(t, k.b.Held(), next.b.Held())
	})
}

func TestRestoreDropsWhatCantBeUsed(t *testing.T) {
	run(t, broker.Tunables{}, func(k *bench) {
		k.want("github", "first")
		k.want("slack", "first")
		k.vault.store("short", 20*time.Second)
		k.want("jira", "short")
		content := k.b.Snapshot()

		fewer := k.next()
		fewer.b.SetGrant(k.grant("jwt-2", "grnt-1", "slack:*"))
		n, err := fewer.b.Restore(content)
		require.NoError(t, err)
		require.Equal(t, 1, n, "what the new scopes don't cover is dropped")
		require.Equal(t, broker.TrustUnknown, fewer.b.Status().Trust, "the new token has to prove itself")

		k.at(16 * time.Second)
		later := k.next()
		n, err = later.b.Restore(content)
		require.NoError(t, err)
		require.Equal(t, 2, n, "what expired meanwhile is dropped")
		require.Len(t, later.b.Held(), 2)
	})
}

func TestRestoreOfANewTokenIsRevalidated(t *testing.T) {
	run(t, broker.Tunables{}, func(k *bench) {
		k.want("github", "first")
		k.want("slack", "first")
		content := k.b.Snapshot()
		k.stop()
		k.at(time.Minute)
		k.next().run(func(next *bench) {
			next.b.SetGrant(k.grant("jwt-2", "grnt-1", "*"))
			_, err := next.b.Restore(content)
			require.NoError(t, err)
			next.want("github", "first")
			next.want("slack", "first")
			time.Sleep(time.Second)
			calls := k.vault.seen()
			require.Len(t, calls, 4)
			require.Equal(t, []string{"jwt-2", "jwt-2"}, []string{calls[2].token, calls[3].token})
		})
	})
}

func TestRestoreWithWrongConfirmation(t *testing.T) {
	run(t, broker.Tunables{}, func(k *bench) {
		k.want("github", "first")
		content := k.b.Snapshot()
		for name, confirmed := range map[string]int64{
			"in the future": int64(1000 * time.Hour), "never": 0, "before the boot": math.MinInt64,
		} {
			next := k.next()
			_, err := next.b.Restore(bent(t, content, map[string]any{"confirmed": confirmed}, nil))
			require.NoError(t, err)
			require.Equal(t, broker.TrustUnknown, next.b.Status().Trust, name)
		}
	})
}

func TestRestoreNeedsALivingGrant(t *testing.T) {
	run(t, broker.Tunables{}, func(k *bench) {
		k.want("github", "first")
		content := k.b.Snapshot()
		next := k.next()
		k.clock.Step(100 * time.Hour)
		_, err := next.b.Restore(content)
		require.ErrorIs(t, err, broker.ErrSnapshotGrant)
	})
}

func TestNothingIsHandedOverThatMayNotBeServed(t *testing.T) {
	run(t, broker.Tunables{}, func(k *bench) {
		require.Nil(t, k.b.Snapshot(), "nothing is held")
		k.vault.store("short", 20*time.Second)
		k.want("github", "short")
		require.NotNil(t, k.b.Snapshot())
		k.at(15 * time.Second)
		require.Nil(t, k.b.Snapshot(), "it expired")
		k.vault.store("endless", 0)
		k.want("github", "endless")
		k.vault.store("long", time.Hour)
		k.want("slack", "long")
		k.clock.Step(2 * time.Hour)
		require.NotContains(t, string(k.b.Snapshot()), "slack", "expired by a clock, and nobody has looked since")
		k.clock.Step(98 * time.Hour)
		require.Nil(t, k.b.Snapshot(), "the grant is past its end")
		k.clock.Step(-100 * time.Hour)
		k.b.SetGrant(grant.Snapshot{State: grant.Withdrawn})
		require.Nil(t, k.b.Snapshot())
	})
}

// Any bytes may come out of the service manager's store. Whatever they are,
// Restore neither panics nor serves a token beyond its time.
func FuzzRestore(f *testing.F) {
	f.Add([]byte(`{"version":1}`))
	f.Add([]byte(`{"version":1,"bootId":"x","entries":[{"token":"t","service":"s","metadata":{}}]}`))
	f.Fuzz(func(t *testing.T, content []byte) {
		k := newBench(t, broker.Tunables{})
		n, err := k.b.Restore(content)
		if err != nil {
			require.Zero(t, n)
		}
		require.Len(t, k.b.Held(), n)
	})
}

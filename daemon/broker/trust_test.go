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

func TestRevocationIsNoticedWithinTheInterval(t *testing.T) {
	run(t, broker.Tunables{}, func(k *bench) {
		for _, service := range []string{"github", "slack", "jira", "gitlab"} {
			k.want(service, "first")
		}
		k.vault.fail(errRejected)
		revoked := time.Now()
		for {
			time.Sleep(time.Second)
			if _, err := k.get("slack"); err != nil {
				break
			}
			require.Less(t, time.Since(revoked), 5*time.Minute, "a revoked grant is still served")
		}
		// One check and its confirmation, whatever the number of services.
		require.Equal(t, 4+2, k.vault.count())
		for _, service := range []string{"github", "slack", "jira", "new"} {
			e := k.refuse(service, broker.KindUnauthorized)
			require.Contains(t, e.Message, "rejected the grant token")
		}
		require.Empty(t, k.b.Held())
		require.Equal(t, 4+2, k.vault.count(), "no more calls with a rejected token")
		require.Nil(t, k.b.Snapshot())
		require.Positive(t, k.withheld)
	})
}

func TestOneCheckAnIntervalWhileThereAreReaders(t *testing.T) {
	run(t, broker.Tunables{}, func(k *bench) {
		for _, service := range []string{"a", "b", "c", "d", "e", "f"} {
			k.want(service, "first")
		}
		for time.Since(k.start) < time.Hour {
			for _, service := range []string{"a", "b", "c", "d", "e", "f"} {
				k.want(service, "first")
			}
			time.Sleep(time.Second)
		}
		checks := k.vault.count() - 6
		require.InDelta(t, 12, checks, 1, "one in five minutes, less the lead")
		counts := map[string]int{}
		for _, c := range k.vault.seen()[6:] {
			counts[c.service]++
			require.Equal(t, upstream.ClassCheck, c.class)
		}
		require.Len(t, counts, 6, "the one confirmed longest ago is asked next")
	})
}

func TestFirstReadAfterIdlenessConfirms(t *testing.T) {
	run(t, broker.Tunables{}, func(k *bench) {
		k.want("github", "first")
		k.at(3 * time.Hour)
		require.Equal(t, 1, k.vault.count(), "nobody reads, nothing is asked")
		k.vault.fail(errRejected)
		k.want("github", "first")
		time.Sleep(time.Second)
		k.refuse("github", broker.KindUnauthorized)
		require.Equal(t, 3, k.vault.count())
	})
}

func TestOneFalse401IsForgiven(t *testing.T) {
	run(t, broker.Tunables{}, func(k *bench) {
		k.want("github", "first")
		k.at(time.Minute)
		first := true
		k.vault.set(func(_, service string) (*upstream.Credential, error) {
			if first {
				first = false
				return nil, errRejected
			}
			return credential(service, "slack-token", time.Now().Add(time.Hour)), nil
		})
		go func() {
			time.Sleep(latency + latency/2)
			got, err := k.b.Get(k.t.Context(), broker.Request{Service: "github", Caller: "uid:1", Wait: 10 * ms})
			require.Error(t, err, "everything is withheld until the second answer: %v", got)
		}()
		k.want("slack", "slack-token")
		k.want("github", "first")
		require.Equal(t, 3, k.vault.count())
	})
}

func TestA401ThatIsNotAboutTheGrantPurgesNothing(t *testing.T) {
	shapeless := &upstream.Error{Status: 401, URL: "https://vault.test"}
	missing := vaultError(401, "UNAUTHORIZED", "Missing grant token")
	for name, err := range map[string]*upstream.Error{"invalid api key": errBadPath, "missing": missing, "no shape": shapeless} {
		t.Run(name, func(t *testing.T) {
			run(t, broker.Tunables{}, func(k *bench) {
				k.want("github", "first")
				k.vault.fail(err)
				e := k.refuse("slack", broker.KindUpstream)
				require.Contains(t, e.Message, "https://vault.test")
				require.Contains(t, e.Message, "wrong address or a proxy")
				k.want("github", "first")
			})
		})
	}
}

func TestAnAnswerThatIsNotTheVaultsSpeaksOfTheAddress(t *testing.T) {
	for name, c := range map[string]struct {
		err  *upstream.Error
		says string
	}{
		"no such method":  {&upstream.Error{Status: 501, URL: "https://web.test"}, "https://web.test answered 501"},
		"no such page":    {&upstream.Error{Status: 404, URL: "https://web.test"}, "https://web.test answered 404"},
		"the vault's own": {errServer, ""},
		"its bad request": {vaultError(400, "BAD_REQUEST", "no"), ""},
	} {
		t.Run(name, func(t *testing.T) {
			run(t, broker.Tunables{}, func(k *bench) {
				k.vault.fail(c.err)
				e := k.refuse("github", broker.KindUpstream)
				if c.says == "" {
					require.NotContains(t, e.Message, "wrong address")
					return
				}
				require.Contains(t, e.Message, c.says)
				require.Contains(t, e.Message, "wrong address or a proxy in between; check the upstream URL")
			})
		})
	}
}

func TestAPurgeForAnotherConsentIsLogged(t *testing.T) {
	run(t, broker.Tunables{}, func(k *bench) {
		const line = "of another consent; everything held was purged"
		k.want("github", "first")
		k.want("slack", "first")
		k.b.SetGrant(k.grant("jwt-2", "grnt-1", "*"))
		require.Empty(t, k.log.with(line), "the same consent purges nothing")
		k.b.SetGrant(k.grant("jwt-3", "grnt-3", "*"))
		require.Len(t, k.log.with(line, `"level":"INFO"`, `"credentials":2`), 1)
		k.b.SetGrant(grant.Snapshot{State: grant.Withdrawn})
		time.Sleep(2 * time.Minute)
		k.b.SetGrant(k.grant("jwt-3", "grnt-3", "*"))
		require.Len(t, k.log.with(line), 1, "the same one, back too late")
	})
}

func TestRejectedTokenIsProbedEverMoreSeldom(t *testing.T) {
	run(t, broker.Tunables{}, func(k *bench) {
		k.vault.fail(errRejected)
		k.refuse("github", broker.KindUnauthorized)
		require.Equal(t, 2, k.vault.count())
		rejectedAt := time.Since(k.start)
		var gaps []time.Duration
		for len(gaps) < 6 {
			n := k.vault.count()
			before := time.Since(k.start)
			for k.vault.count() == n {
				time.Sleep(time.Second)
				k.refuse("github", broker.KindUnauthorized)
			}
			_ = before
			at := k.vault.seen()[n].at
			gaps = append(gaps, (at - rejectedAt).Round(time.Second))
			rejectedAt = at + latency
		}
		require.Equal(t, []time.Duration{
			time.Minute, 2 * time.Minute, 4 * time.Minute, 8 * time.Minute, 10 * time.Minute, 10 * time.Minute,
		}, gaps)

		k.vault.store("again", time.Hour)
		time.Sleep(10*time.Minute + time.Second)
		k.want("github", "again")
	})
}

func TestANewTokenEndsARejectionAtOnce(t *testing.T) {
	run(t, broker.Tunables{}, func(k *bench) {
		k.vault.set(func(token, service string) (*upstream.Credential, error) {
			if token == "jwt-1" {
				return nil, errRejected
			}
			return credential(service, "for-"+token, time.Now().Add(time.Hour)), nil
		})
		k.refuse("github", broker.KindUnauthorized)
		k.b.SetGrant(k.grant("jwt-1", "grnt-1", "*"))
		k.refuse("github", broker.KindUnauthorized)
		k.b.SetGrant(grant.Snapshot{State: grant.Withdrawn})
		k.b.SetGrant(k.grant("jwt-1", "grnt-1", "*"))
		k.refuse("github", broker.KindUnauthorized)
		require.Equal(t, 2, k.vault.count(), "the same token stays rejected")
		k.b.SetGrant(k.grant("jwt-2", "grnt-1", "*"))
		k.want("github", "for-jwt-2")
	})
}

func TestThe401MayBeAnsweredByANewFile(t *testing.T) {
	run(t, broker.Tunables{}, func(k *bench) {
		k.vault.set(func(token, service string) (*upstream.Credential, error) {
			if token == "jwt-1" {
				return nil, errRejected
			}
			return credential(service, "for-"+token, time.Now().Add(time.Hour)), nil
		})
		k.reread = func() { k.b.SetGrant(k.grant("jwt-2", "grnt-1", "*")) }
		k.want("github", "for-jwt-2")
		require.Equal(t, 2, k.vault.count())
	})
}

func TestAFlightOfAFormerConsentIsNeverServed(t *testing.T) {
	run(t, broker.Tunables{}, func(k *bench) {
		k.vault.set(func(token, service string) (*upstream.Credential, error) {
			return credential(service, "for-"+token, time.Now().Add(time.Hour)), nil
		})
		got := make(chan string)
		go func() {
			token, err := k.get("github")
			require.NoError(t, err)
			got <- token
		}()
		time.Sleep(latency / 2)
		k.b.SetGrant(k.grant("jwt-2", "grnt-2", "*"))
		require.Equal(t, "for-jwt-2", <-got)
		synctest.Wait()
		k.want("github", "for-jwt-2")
		require.Equal(t, 2, k.vault.count())
		require.Zero(t, k.vault.cancelled, "one that is given up holds its slot for longer")
	})
}

func TestASuspicionThatCantBeConfirmedKeepsEverythingWithheld(t *testing.T) {
	run(t, broker.Tunables{}, func(k *bench) {
		k.want("github", "first")
		n := 0
		k.vault.set(func(_, service string) (*upstream.Credential, error) {
			n++
			switch n {
			case 1:
				return nil, errRejected
			case 2, 3, 4:
				return nil, errServer
			}
			return credential(service, "fine", time.Now().Add(time.Hour)), nil
		})
		_, err := k.ask(broker.Request{Service: "slack", Caller: "uid:1", Wait: 300 * ms})
		require.Error(t, err)
		_, err = k.ask(broker.Request{Service: "github", Caller: "uid:1", Wait: 10 * ms})
		var e *broker.Error
		require.ErrorAs(t, err, &e)
		require.Equal(t, broker.KindUnauthorized, e.Kind)
		require.Equal(t, broker.TrustSuspect, k.b.Status().Trust)
		k.at(time.Minute)
		k.want("github", "first")
		require.Equal(t, broker.TrustConfirmed, k.b.Status().Trust)
	})
}

func TestSnapshotSurvivesARestart(t *testing.T) {
	run(t, broker.Tunables{}, func(k *bench) {
		k.want("github", "first")
		content := k.b.Snapshot()
		require.NotEmpty(t, content)

		next := newBenchOn(k.t, broker.Tunables{}, k.vault, k.clock)
		for name, c := range map[string]struct {
			grant   grant.Snapshot
			content []byte
			err     error
		}{
			"another consent": {k.grant("jwt-9", "grnt-9", "*"), content, broker.ErrSnapshotGrant},
			"no grant":        {grant.Snapshot{State: grant.Withdrawn}, content, broker.ErrSnapshotGrant},
			"corrupt":         {k.grant("jwt-1", "grnt-1", "*"), content[:len(content)/2], broker.ErrSnapshotCorrupt},
			"another version": {k.grant("jwt-1", "grnt-1", "*"), []byte(`{"version":99}`), broker.ErrSnapshotVersion},
			"another boot":    {k.grant("jwt-1", "grnt-1", "*"), []byte(`{"version":1,"bootId":"x"}`), broker.ErrSnapshotBoot},
		} {
			next.b.SetGrant(c.grant)
			n, err := next.b.Restore(c.content)
			require.ErrorIs(t, err, c.err, name)
			require.Zero(t, n, name)
			require.Empty(t, next.b.Held(), name)
		}
		next.b.SetGrant(k.grant("jwt-1", "grnt-1", "*"))
		n, err := next.b.Restore(content)
		require.NoError(t, err)
		require.Equal(t, 1, n)
		next.want("github", "first")
		require.Equal(t, 1, k.vault.count(), "a restart costs no departure")
	})
}

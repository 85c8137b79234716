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

// byToken answers as verdicts says of the token, and with "for-TOKEN" where it
// says nothing.
func byToken(verdicts map[string]error) func(string, string) (*upstream.Credential, error) {
	return func(token, service string) (*upstream.Credential, error) {
		if err := verdicts[token]; err != nil {
			return nil, err
		}
		return credential(service, "for-"+token, time.Now().Add(time.Hour)), nil
	}
}

// The vault checks the token when it gets it, and may take ten seconds to say so:
// a revocation right after that counts from there.
func TestRevocationBitesInTimeWhenTheVaultIsSlow(t *testing.T) {
	run(t, broker.Tunables{}, func(k *bench) {
		k.vault.delay = 9 * time.Second
		reads := k.later(reader("github", "uid:1", 10*time.Second))
		synctest.Wait()
		k.vault.fail(errRejected)
		revoked := time.Now()
		k.gets(reads, "first")
		served := time.Now()
		for time.Since(revoked) < 10*time.Minute {
			if _, err := k.ask(reader("github", "uid:1", 50*ms)); err == nil {
				served = time.Now()
			}
			time.Sleep(100 * ms)
		}
		require.LessOrEqual(t, served.Sub(revoked), 5*time.Minute)
		require.Greater(t, served.Sub(revoked), 4*time.Minute, "nor is it asked all the time")
	})
}

func TestATokenSwapUnderSuspicion(t *testing.T) {
	run401 := func(t *testing.T, second error, consent string, body func(*bench)) {
		run(t, broker.Tunables{}, func(k *bench) {
			k.want("github", "first")
			k.vault.set(byToken(map[string]error{"jwt-1": errRejected, "jwt-2": second}))
			k.reread = func() { k.b.SetGrant(k.grant("jwt-2", consent, "*")) }
			body(k)
		})
	}
	t.Run("the same consent stays withheld until its new token has proved itself", func(t *testing.T) {
		run401(t, nil, "grnt-1", func(k *bench) {
			asker := k.later(reader("slack", "uid:1", time.Second))
			k.at(2*latency + latency/2)
			require.Equal(t, broker.TrustSuspect, k.b.Status().Trust)
			k.fails(reader("github", "uid:1", ms), broker.KindUnauthorized)
			require.Nil(t, k.b.Snapshot())
			k.gets(asker, "for-jwt-2")
			token, err := k.ask(reader("github", "uid:1", ms))
			require.NoError(t, err, "the cache was kept")
			require.Equal(t, "first", token)
			require.Equal(t, 3, k.vault.count())
		})
	})
	t.Run("the same consent whose new token is refused too", func(t *testing.T) {
		run401(t, errRejected, "grnt-1", func(k *bench) {
			k.refuse("slack", broker.KindUnauthorized)
			k.refuse("github", broker.KindUnauthorized)
			require.Empty(t, k.b.Held())
			require.Equal(t, broker.TrustRejected, k.b.Status().Trust)
			require.Equal(t, 3, k.vault.count())
		})
	})
	t.Run("another consent begins anew", func(t *testing.T) {
		run401(t, nil, "grnt-2", func(k *bench) {
			k.want("slack", "for-jwt-2")
			k.want("github", "for-jwt-2")
			require.Equal(t, 4, k.vault.count())
		})
	})
}

func TestWithdrawnUnderSuspicionPurges(t *testing.T) {
	run(t, broker.Tunables{}, func(k *bench) {
		k.want("github", "first")
		k.vault.set(byToken(map[string]error{"jwt-1": errRejected}))
		k.reread = func() { k.b.SetGrant(grant.Snapshot{State: grant.Withdrawn}) }
		k.refuse("slack", broker.KindGrantUnavailable)
		require.Empty(t, k.b.Held())
		k.vault.store("again", time.Hour)
		k.b.SetGrant(k.grant("jwt-1", "grnt-1", "*"))
		k.want("github", "again")
		require.Equal(t, 3, k.vault.count())
	})
}

func TestTheSecondAskMayBeLimited(t *testing.T) {
	limited := vaultError(429, "BAD_REQUEST", "Rate limit exceeded, retry in 40 seconds")
	limited.RetryAfter = 40 * time.Second
	run(t, broker.Tunables{}, func(k *bench) {
		k.want("github", "first")
		answers := []error{errRejected, limited, nil}
		k.vault.set(func(_, service string) (*upstream.Credential, error) {
			err := answers[0]
			if answers = answers[1:]; err != nil {
				return nil, err
			}
			return credential(service, "fine", time.Now().Add(time.Hour)), nil
		})
		k.refuse("slack", broker.KindRateLimited)
		limitedAt := time.Since(k.start)
		e := k.fails(reader("github", "uid:1", 40*time.Second-ms), broker.KindUnauthorized)
		require.Equal(t, 40*time.Second, e.RetryAfter)
		require.Zero(t, time.Since(k.start)-limitedAt, "told at once")
		token, err := k.ask(reader("github", "uid:1", time.Minute))
		require.NoError(t, err, "who can wait, waits for the third ask")
		require.Equal(t, "first", token)
		require.Equal(t, limitedAt+40*time.Second+latency, time.Since(k.start))
		require.Equal(t, 4, k.vault.count())
	})
}

func TestAProbeKeepsToTheCooldowns(t *testing.T) {
	run(t, broker.Tunables{}, func(k *bench) {
		k.vault.fail(errRejected)
		k.refuse("github", broker.KindUnauthorized)
		k.vault.fail(errServer)
		rejected := time.Since(k.start)
		k.at(rejected + time.Minute + 2*latency)
		require.Equal(t, 3, k.vault.count(), "the probe fails")
		require.Equal(t, broker.TrustRejected, k.b.Status().Trust, "a 500 ends no rejection")
		k.at(rejected + 2*time.Minute)
		require.Equal(t, 3, k.vault.count())
		k.vault.store("again", time.Hour)
		k.at(rejected + 2*time.Minute + 3*latency)
		require.Equal(t, 4, k.vault.count(), "a failed probe is repeated after as long a wait")
		k.want("github", "again")
	})
}

// A flight that was under way for the same service as the 401 arose is waited
// for, and the second ask then comes from Run.
func TestASuspicionOutlivesItsFlight(t *testing.T) {
	run(t, broker.Tunables{FlightTimeout: 300 * ms}, func(k *bench) {
		k.want("github", "first")
		k.vault.fail(errRejected)
		k.reread = func() { time.Sleep(time.Second) } // a file system that hangs
		k.soonUnauthorized("slack")
		k.vault.store("fine", time.Hour)
		k.at(5 * time.Second)
		k.want("github", "first")
		require.Equal(t, 3, k.vault.count())
	})
}

func (k *bench) soonUnauthorized(service string) {
	k.t.Helper()
	k.fails(reader(service, "uid:1", 200*ms), broker.KindTimeout)
	k.fails(reader(service, "uid:1", 10*ms), broker.KindUnauthorized)
}

func TestEvery404And403Confirms(t *testing.T) {
	for name, err := range map[string]error{"404": errNotFound, "403": errForbidden} {
		t.Run(name, func(t *testing.T) {
			run(t, broker.Tunables{}, func(k *bench) {
				k.want("github", "first")
				k.at(4 * time.Minute)
				k.vault.set(func(_, service string) (*upstream.Credential, error) {
					if service == "slack" {
						return nil, err
					}
					return credential(service, "second", time.Now().Add(time.Hour)), nil
				})
				k.soon("slack")
				require.Equal(t, latency, k.b.Status().Confirmed)
				time.Sleep(ms)
				k.want("github", "first")
				k.at(8*time.Minute + 50*time.Second - ms)
				require.Equal(t, 2, k.vault.count(), "the check is due 4:50 after that departure")
				k.at(8*time.Minute + 50*time.Second)
				require.Equal(t, 3, k.vault.count())
			})
		})
	}
}

// Idle readers cost nothing: what was read before the last confirmation is not
// checked again until somebody reads it.
func TestNoCheckWithoutReaders(t *testing.T) {
	run(t, broker.Tunables{}, func(k *bench) {
		k.want("github", "first")
		k.at(time.Hour)
		require.Equal(t, 1, k.vault.count())
		k.want("github", "first")
		k.at(time.Hour + latency)
		require.Equal(t, 2, k.vault.count(), "the first read after idleness is followed by one")
		k.at(2 * time.Hour)
		require.Equal(t, 2, k.vault.count())
	})
}

func TestUnconfirmedIsToldWithTheAnswer(t *testing.T) {
	run(t, broker.Tunables{}, func(k *bench) {
		k.want("github", "first")
		k.vault.fail(errServer)
		k.at(5*time.Minute - ms)
		require.Zero(t, k.answer("github").Unconfirmed)
		k.at(5*time.Minute + time.Second)
		require.Equal(t, time.Second, k.answer("github").Unconfirmed)
		require.Equal(t, broker.TrustOverdue, k.b.Status().Trust)
		require.Contains(t, k.b.Explain("github").Summary,
			"The vault has not confirmed the grant for 5m1s: a revocation since then is not known here.")
	})
}

func TestANewTokenOfTheSameConsentIsNoStuckRotation(t *testing.T) {
	run(t, broker.Tunables{}, func(k *bench) {
		expires := time.Now().Add(time.Hour)
		k.vault.set(same("same", expires))
		k.want("github", "same")
		planned := k.b.Held()[0].NextRefresh
		k.at(time.Minute + latency)
		k.b.SetGrant(k.grant("jwt-2", "grnt-1", "*"))
		k.at(2*time.Minute + latency)
		calls := k.vault.seen()
		require.Len(t, calls, 2, "it proves itself by one exchange")
		require.Equal(t, "jwt-2", calls[1].token)
		h := k.b.Held()[0]
		require.False(t, h.RotationStuck)
		require.Equal(t, planned-2*time.Minute, h.NextRefresh, "the refresh stays where it was planned")
		require.Empty(t, k.log.with("same token"))
		for time.Since(k.start) < 56*time.Minute {
			k.want("github", "same")
			time.Sleep(10 * time.Second)
		}
		require.True(t, k.b.Held()[0].RotationStuck, "it is, when the refresh brings it again")
		require.Len(t, k.log.with("WARN", "same token"), 1)
	})
}

func TestANewTokenProvesItselfByAllThatIsRead(t *testing.T) {
	run(t, broker.Tunables{}, func(k *bench) {
		for _, service := range []string{"a", "b", "c"} {
			k.want(service, "first")
		}
		k.at(time.Minute)
		k.b.SetGrant(k.grant("jwt-2", "grnt-1", "*"))
		for _, service := range []string{"a", "b", "c"} {
			k.want(service, "first")
		}
		k.at(time.Minute + latency)
		require.Equal(t, 6, k.vault.count())
	})
}

func TestASuspicionWithholdsTheCopy(t *testing.T) {
	run(t, broker.Tunables{}, func(k *bench) {
		k.want("github", "first")
		withheld, first := k.withheld, true
		k.vault.set(func(_, service string) (*upstream.Credential, error) {
			if first {
				first = false
				return nil, errRejected
			}
			return credential(service, "fine", time.Now().Add(time.Hour)), nil
		})
		changed := k.b.CacheChanged()
		k.want("slack", "fine")
		require.Equal(t, withheld+1, k.withheld)
		<-changed
		require.NotNil(t, k.b.Snapshot(), "it is made again when the suspicion is cleared")
	})
}

// What departed before the 401 and is answered after it is handed to nobody while
// everything is withheld.
func TestAnAnswerDuringASuspicionIsWithheld(t *testing.T) {
	run(t, broker.Tunables{}, func(k *bench) {
		k.vault.delay = time.Second
		waiting := k.later(reader("github", "uid:1", 20*time.Second))
		synctest.Wait()
		first := true
		k.vault.set(func(_, service string) (*upstream.Credential, error) {
			if first {
				first = false
				return nil, errRejected
			}
			return credential(service, "fine", time.Now().Add(time.Hour)), nil
		})
		k.vault.change(func() { k.vault.delay = latency })
		asker := k.later(reader("slack", "uid:1", 10*time.Second))
		synctest.Wait()
		k.vault.change(func() { k.vault.delay = 5 * time.Second })
		k.at(4 * time.Second)
		require.Empty(t, k.b.Held(), "github's answer came, but was not taken")
		k.gets(asker, "fine")
		require.GreaterOrEqual(t, k.gets(waiting, "fine"), 5*time.Second)
	})
}

// The vault that rejects the token is one that works.
func TestARejectionEndsAnOutage(t *testing.T) {
	run(t, broker.Tunables{}, func(k *bench) {
		k.vault.fail(errConnect)
		k.soon("github")
		require.NotEmpty(t, k.b.Status().LastError)
		k.vault.fail(errRejected)
		k.at(3 * time.Second)
		k.refuse("github", broker.KindUnauthorized)
		require.Empty(t, k.b.Status().LastError)
		require.Len(t, k.log.with("INFO", "answers again"), 1)
	})
}

func TestAProbeWaitsForTheEndOfALimit(t *testing.T) {
	limited := vaultError(429, "BAD_REQUEST", "Rate limit exceeded")
	limited.RetryAfter = 5 * time.Minute
	run(t, broker.Tunables{}, func(k *bench) {
		k.vault.set(func(_, service string) (*upstream.Credential, error) {
			if service == "limited" {
				return nil, limited
			}
			return nil, errRejected
		})
		k.vault.change(func() { k.vault.delay = 2 * latency })
		rejected := k.later(reader("github", "uid:1", 10*time.Second))
		synctest.Wait()
		k.vault.change(func() { k.vault.delay = latency })
		k.soon("limited")
		k.told(rejected, broker.KindUnauthorized, 4*latency)
		k.at(5*time.Minute + latency - ms)
		require.Equal(t, 3, k.vault.count(), "the probe was due after a minute")
		require.Equal(t, ms, k.b.Status().NextProbe)
		k.at(5*time.Minute + latency)
		require.Equal(t, 4, k.vault.count())
	})
}

// A service that fails alone must not keep the grant from being checked by
// another one.
func TestTheCheckGoesToAServiceThatWorks(t *testing.T) {
	run(t, broker.Tunables{}, func(k *bench) {
		k.want("oldest", "first")
		k.want("github", "first")
		k.vault.set(failing(map[string]error{"oldest": errServer}))
		k.at(4 * time.Minute)
		k.want("oldest", "first")
		k.want("github", "first")
		k.at(4*time.Minute + 50*time.Second + latency)
		k.at(4*time.Minute + 50*time.Second + 2*latency)
		calls := k.vault.seen()
		require.Len(t, calls, 4)
		require.Equal(t, []string{"oldest", "github"}, []string{calls[2].service, calls[3].service})
		require.Less(t, calls[3].at-calls[2].at, 2*latency, "at once, not after the cool-down")
	})
}

// A refresh that waits for a slot above the reserve becomes the check when that
// is due: it has a slot of its own.
func TestAWaitingRefreshBecomesTheCheck(t *testing.T) {
	run(t, broker.Tunables{}, func(k *bench) {
		services := []string{"a", "b", "c", "d", "e", "f"}
		for _, service := range services {
			k.want(service, "first")
		}
		k.at(time.Minute)
		k.vault.opensAt(time.Hour, 0, 0)
		k.b.SetGrant(k.grant("jwt-2", "grnt-1", "*"))
		for _, service := range services {
			k.want(service, "first")
			synctest.Wait() // Run looks several times before the answer comes
		}
		k.at(time.Minute + latency)
		calls := k.vault.seen()[len(services):]
		require.Len(t, calls, 1, "one of all refreshes")
		require.Equal(t, upstream.ClassCheck, calls[0].class)
		require.Equal(t, broker.TrustConfirmed, k.b.Status().Trust)
	})
}

func TestAWithdrawnGrantComesBackAfterTheMachineSlept(t *testing.T) {
	run(t, broker.Tunables{}, func(k *bench) {
		k.want("github", "first")
		k.b.SetGrant(grant.Snapshot{State: grant.Withdrawn})
		k.clock.Suspend(10 * time.Minute) // no timer fires
		k.vault.store("second", time.Hour)
		k.b.SetGrant(k.grant("jwt-1", "grnt-1", "*"))
		k.want("github", "second")
	})
}

// The copy outside the process is withheld when the grant file goes, and has to
// be made again when it comes back.
func TestTheCopyIsMadeAgainWhenTheGrantComesBack(t *testing.T) {
	run(t, broker.Tunables{}, func(k *bench) {
		k.want("github", "first")
		withheld := k.withheld
		k.b.SetGrant(grant.Snapshot{State: grant.Withdrawn})
		require.Equal(t, withheld+1, k.withheld)
		require.Nil(t, k.b.Snapshot())
		changed := k.b.CacheChanged()
		k.b.SetGrant(k.grant("jwt-1", "grnt-1", "*"))
		select {
		case <-changed:
		default:
			t.Error("nobody is told to make a copy")
		}
		require.NotNil(t, k.b.Snapshot())
	})
}

func TestWhatTheVaultRefusesIsWithheldFromTheCopy(t *testing.T) {
	for name, err := range map[string]error{"404": errNotFound, "403": errForbidden} {
		t.Run(name, func(t *testing.T) {
			run(t, broker.Tunables{}, func(k *bench) {
				k.want("github", "first")
				withheld := k.withheld
				k.vault.fail(err)
				k.at(31 * time.Second)
				_, _ = k.ask(forced("uid:1", time.Second))
				require.Equal(t, withheld+1, k.withheld, "a restart must not bring it back")
				require.Nil(t, k.b.Snapshot())
			})
		})
	}
}

func TestAWithdrawnGrantsCacheIsPurgedByTime(t *testing.T) {
	run(t, broker.Tunables{}, func(k *bench) {
		k.want("github", "first")
		k.b.SetGrant(grant.Snapshot{State: grant.Withdrawn})
		k.at(time.Minute + latency)
		require.Len(t, k.b.Held(), 1)
		k.at(time.Minute + latency + ms)
		require.Empty(t, k.b.Held(), "nothing is kept in memory for longer than it may be of use")
	})
}

func TestAGrantThatNeverWas(t *testing.T) {
	run(t, broker.Tunables{}, func(k *bench) {
		k.want("github", "first")
		k.b.SetGrant(grant.Snapshot{})
		e := k.refuse("github", broker.KindGrantUnavailable)
		require.Contains(t, e.Message, "put the agent's grant token into the grant file")
		require.Empty(t, k.b.Held())
	})
}

func TestScopesAreMatchedWithoutDeparture(t *testing.T) {
	for scope, asked := range map[string]bool{
		"*": true, "github:*": true, "github:read": true, "GitHub:Read": true, "github:credentials:read": true,
		"vault:github:*": true, "vault:github:read": true, "vault:credentials:exchange": true,
		"github:write": false, "slack:read": false, "vault:slack:read": false, "githubx:read": false,
		"some opaque thing": true, "urn:x:y:z": true,
	} {
		t.Run(scope, func(t *testing.T) {
			run(t, broker.Tunables{}, func(k *bench) {
				k.b.SetGrant(k.grant("jwt-2", "grnt-1", scope))
				if asked {
					k.want("github", "first")
					require.Equal(t, 1, k.vault.count())
					return
				}
				e := k.refuse("github", broker.KindForbidden)
				for _, enough := range upstream.ScopesFor("github") {
					require.Contains(t, e.Message, enough)
				}
				require.Zero(t, k.vault.count())
				require.Equal(t, "uncovered", k.b.Explain("github").State)
			})
		})
	}
}

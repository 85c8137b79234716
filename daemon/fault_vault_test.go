package daemon_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/grantexd/grantexd/daemon/broker"
	"github.com/grantexd/grantexd/upstream/budget"
	"github.com/grantexd/grantexd/upstream/devvault"
)

// TestACrowdMeetsAFaultOfTheVault does with the vault's own misbehaviour what the
// test of that name does with the network's.
func TestACrowdMeetsAFaultOfTheVault(t *testing.T) {
	for name, c := range map[string]struct {
		fault   devvault.Fault
		failure broker.Kind // 0 for none
		says    string
		seen    int
	}{
		"latency":              {devvault.Fault{Kind: devvault.FaultLatency, Delay: 20 * time.Millisecond}, 0, "", 1},
		"hangs":                {devvault.Fault{Kind: devvault.FaultHang}, broker.KindTimeout, "did not answer in time", 1},
		"500":                  {devvault.Fault{Kind: devvault.FaultStatus, Status: 500}, broker.KindUpstream, "answered 500", 1},
		"418":                  {devvault.Fault{Kind: devvault.FaultStatus, Status: 418}, broker.KindUpstream, "answered 418", 1},
		"503 for good":         {devvault.Fault{Kind: devvault.FaultStatus, Status: 503}, broker.KindUpstream, "answered 503", 2},
		"502 once":             {devvault.Fault{Kind: devvault.FaultStatus, Status: 502, Times: 1}, 0, "", 2},
		"a page of a proxy":    {devvault.Fault{Kind: devvault.FaultStatus, Status: 404, Body: "<h1>Not here</h1>"}, broker.KindUpstream, "a proxy in between", 1},
		"wrong path":           {devvault.Fault{Kind: devvault.FaultUnauthorized, As: devvault.AsAPIKey}, broker.KindUpstream, "not about the grant token", 1},
		"a proxy's 401":        {devvault.Fault{Kind: devvault.FaultUnauthorized, As: devvault.AsProxy}, broker.KindUpstream, "not about the grant token", 1},
		"lost header":          {devvault.Fault{Kind: devvault.FaultUnauthorized, As: devvault.AsMissing}, broker.KindUpstream, "not about the grant token", 1},
		"not JSON":             {devvault.Fault{Kind: devvault.FaultMalformed}, broker.KindUpstream, "no credential", 1},
		"another's credential": {devvault.Fault{Kind: devvault.FaultMalformed, Body: `{"accessToken":"t","service":"slack"}`}, broker.KindUpstream, "no credential", 1},
		"too large":            {devvault.Fault{Kind: devvault.FaultOversize}, broker.KindUpstream, "no credential", 1},
		"truncated for good":   {devvault.Fault{Kind: devvault.FaultTruncate}, broker.KindUpstream, "can't be reached", 2},
		"truncated once":       {devvault.Fault{Kind: devvault.FaultTruncate, Times: 1}, 0, "", 2},
		"reset for good":       {devvault.Fault{Kind: devvault.FaultReset}, broker.KindUpstream, "can't be reached", 2},
		"slow bytes":           {devvault.Fault{Kind: devvault.FaultSlow, Delay: 20 * time.Millisecond}, broker.KindTimeout, "did not answer in time", 1},
		"rejected by mistake":  {devvault.Fault{Kind: devvault.FaultUnauthorized, Times: 1}, 0, "", 2},
		"rejected for good":    {devvault.Fault{Kind: devvault.FaultUnauthorized}, broker.KindUnauthorized, "rejected the grant token", 2},
		"limited":              {devvault.Fault{Kind: devvault.FaultRateLimit, RetryAfter: 40 * time.Second}, broker.KindRateLimited, "in 40s", 1},
	} {
		t.Run(name, func(t *testing.T) {
			r := newFaultRig(t, faultOptions{})
			r.gather()
			r.misbehaves(c.fault)
			for _, a := range r.crowd(64, all("github"), 20*time.Second) {
				if c.failure == 0 {
					r.gets(a, "github")
					continue
				}
				e := r.fails(a, c.failure, faultFlight+faultSlack)
				require.Contains(t, e.Message, c.says)
				require.NotContains(t, e.Message, "Not here", "no body of an answer")
			}
			r.spent(c.seen, c.seen)
			require.NotContains(t, r.log.String(), "Not here")
		})
	}
}

func TestARevokedGrant(t *testing.T) {
	r := newFaultRig(t, faultOptions{})
	r.gets(r.ask("github", "uid:1000", 5*time.Second), "github")
	require.NoError(t, r.vault.Revoke(r.grantID))
	r.fails(r.ask("slack", "uid:1000", 5*time.Second), broker.KindUnauthorized, faultSlack)
	r.spent(3, 3)
	require.Empty(t, r.broker.Held(), "all is purged")
	for _, service := range []string{"github", "slack", "jira"} {
		r.fails(r.ask(service, "uid:1000", 5*time.Second), broker.KindUnauthorized, atOnce)
	}
	r.spent(3, 3)
	r.newGrant()
	r.gets(r.ask("github", "uid:1000", 5*time.Second), "github")
}

// The answer that would say that the grant was revoked gets lost: what is held
// stays in use, and the next answer says it.
func TestARevocationThatGetsLost(t *testing.T) {
	r := newFaultRig(t, faultOptions{})
	r.gets(r.ask("github", "uid:1000", 5*time.Second), "github")
	require.NoError(t, r.vault.Revoke(r.grantID))
	r.network.poison("limit_data", "downstream", `{"bytes":300}`)
	r.fails(r.ask("slack", "uid:1000", 5*time.Second), broker.KindUpstream, faultSlack)
	r.gets(r.ask("github", "uid:1000", 0), "github")
	r.network.heal()
	require.Eventually(t, func() bool {
		_ = r.ask("slack", "uid:1000", faultSlack)
		return r.broker.Status().Trust == broker.TrustRejected
	}, 5*time.Second, 5*time.Millisecond)
	r.fails(r.ask("github", "uid:1000", 5*time.Second), broker.KindUnauthorized, atOnce)
}

// The second ask meets a black hole. Everything stays withheld until a later one
// is answered; then the cache is as warm as before.
func TestASuspicionMeetsABlackHole(t *testing.T) {
	r := newFaultRig(t, faultOptions{})
	r.reread = func() { r.misbehaves(devvault.Fault{Kind: devvault.FaultHang, Times: 1}) }
	r.gets(r.ask("github", "uid:1000", 5*time.Second), "github")
	r.misbehaves(devvault.Fault{Kind: devvault.FaultUnauthorized, Times: 1})
	slack := make(chan faultAnswer, 1)
	go func() { slack <- r.ask("slack", "uid:1000", 5*time.Second) }()
	require.Eventually(t, func() bool { return r.broker.Status().Trust == broker.TrustSuspect }, faultSlack, time.Millisecond)
	r.fails(r.ask("github", "uid:1000", time.Millisecond), broker.KindUnauthorized, atOnce)
	r.gets(r.ask("github", "uid:1000", 5*time.Second), "github")
	r.fails(<-slack, broker.KindTimeout, 2*faultAttempt+faultSlack)
	r.spent(4, 4)
	require.Equal(t, broker.TrustConfirmed, r.broker.Status().Trust)
}

// Once the vault has said that nothing is left, nobody asks it, and it never has
// to say so twice.
func TestA429IsHeardByAll(t *testing.T) {
	r := newFaultRig(t, faultOptions{})
	r.misbehaves(devvault.Fault{Kind: devvault.FaultRateLimit, RetryAfter: 40 * time.Second})
	names := []string{"github", "slack", "jira", "gitlab"}
	r.fails(r.ask("github", "uid:1000", 5*time.Second), broker.KindRateLimited, faultSlack)
	for _, a := range r.crowd(64, func(i int) string { return names[i%4] }, 10*time.Second) {
		e := r.fails(a, broker.KindRateLimited, faultSlack)
		require.InDelta(t, 40, e.RetryAfter.Seconds(), 2)
	}
	r.spent(1, 1)
	require.InDelta(t, 40, r.budget.Status().BlockedFor.Seconds(), 2)
	require.Equal(t, 1, r.lines("WARN"))
}

// Somebody else behind the same address spends of the same budget. The headers
// say so before there is a 429.
func TestAnotherSpenderIsSeenInTheHeaders(t *testing.T) {
	r := newFaultRig(t, faultOptions{})
	for range 17 {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost,
			"http://"+r.network.proxy.Listen+"/v1/vault/credentials/exchange", strings.NewReader(`{"service":"github"}`))
		require.NoError(t, err)
		req.Header.Set("Content-Type", "application/json")
		resp, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
	}
	answered, limited := 0, 0
	for _, service := range []string{"github", "slack", "jira", "gitlab", "missing"} {
		a := r.ask(service, "uid:1000", 5*time.Second)
		if a.err == nil {
			answered++
			continue
		}
		e := r.fails(a, broker.KindRateLimited, atOnce)
		require.Greater(t, e.RetryAfter, 50*time.Second)
		limited++
	}
	require.Equal(t, 3, answered)
	require.Equal(t, 2, limited)
	require.Zero(t, r.vault.Exchanges().ByStatus[http.StatusTooManyRequests])
}

// A vault that stalls counts calls long after they were given up. With times a
// hundredth of the real ones: never more than 5 in any window, as it counts.
func TestAVaultThatCountsLate(t *testing.T) {
	const (
		window = 600 * time.Millisecond
		stall  = faultAttempt + 300*time.Millisecond
	)
	r := newFaultRig(t, faultOptions{
		vault: devvault.Options{RateLimit: 5, RateWindow: window},
		budget: budget.Options{
			Limit: 5, Window: window, Margin: 100 * time.Millisecond, Stall: stall, Reserve: -1, MaxBlock: window,
		},
		broker: broker.Tunables{CooldownMin: time.Millisecond, CooldownMax: 10 * time.Millisecond, UnknownNames: 100},
	})
	r.misbehaves(devvault.Fault{Kind: devvault.FaultHang, Delay: stall, CountLate: true, Times: 5})
	end := time.Now().Add(2200 * time.Millisecond)
	var callers sync.WaitGroup
	for i := range 10 {
		callers.Go(func() {
			for n := 0; time.Now().Before(end); n++ {
				_ = r.ask(fmt.Sprint("name", i, "-", n), fmt.Sprint("uid:", i), time.Until(end))
			}
		})
	}
	callers.Wait()
	seen := r.vault.Exchanges()
	require.Greater(t, seen.Total, 10, "those that hung, and more than one window full after them")
	require.LessOrEqual(t, seen.MaxInWindow, 5)
	require.Zero(t, seen.ByStatus[http.StatusTooManyRequests])
}

func TestAVaultWhoseClockIsOff(t *testing.T) {
	for name, c := range map[string]struct {
		offset, life time.Duration
		kind         broker.Kind // 0 for none
	}{
		"ahead, and it has expired there":     {10 * time.Minute, 5 * time.Minute, broker.KindExpired},
		"ahead, and it lives on both":         {10 * time.Minute, time.Hour, 0},
		"behind, and it has expired here":     {-10 * time.Minute, -5 * time.Minute, broker.KindExpired},
		"behind, and it lives on both clocks": {-10 * time.Minute, time.Hour, 0},
	} {
		t.Run(name, func(t *testing.T) {
			r := newFaultRig(t, faultOptions{})
			r.store("github", canaryToken+"github", c.life)
			r.vault.SetClockOffset(c.offset)
			r.newGrant() // so that its times are by that clock
			a := r.ask("github", "uid:1000", 5*time.Second)
			st := r.broker.Status()
			require.True(t, st.ClockKnown)
			require.InDelta(t, c.offset.Seconds(), st.ClockOffset.Seconds(), 2)
			if c.kind == 0 {
				r.gets(a, "github")
				require.InDelta(t, min(c.life, c.life-c.offset).Seconds(), r.broker.Held()[0].TTL.Seconds(), 8)
				return
			}
			e := r.fails(a, c.kind, faultSlack)
			require.Contains(t, e.Message, "clock and the vault's differ by ")
		})
	}
}

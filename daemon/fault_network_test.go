package daemon_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/grantexd/grantexd/daemon/broker"
	"github.com/grantexd/grantexd/upstream/devvault"
)

// TestACrowdMeetsAFaultOfTheNetwork lets 64 callers ask for one service at once
// while the way to the vault is poisoned: one flight for all of them, so many
// departures as its attempts were, and everybody told as soon as it ended.
func TestACrowdMeetsAFaultOfTheNetwork(t *testing.T) {
	const seldom = 20 * time.Second
	for name, c := range map[string]struct {
		kind, stream, attributes string
		failure                  broker.Kind // 0 for none
		within                   time.Duration
		booked, seen             int
	}{
		"latency within the timeout":         {"latency", "downstream", `{"latency":50}`, 0, faultAttempt, 1, 1},
		"latency beyond the timeout":         {"latency", "downstream", `{"latency":5000}`, broker.KindTimeout, faultAttempt, 1, 1},
		"small pieces that come in time":     {"slicer", "downstream", `{"average_size":64,"size_variation":8,"delay":500}`, 0, faultAttempt, 1, 1},
		"bytes that come too slowly":         {"slicer", "downstream", `{"average_size":1,"size_variation":0,"delay":20000}`, broker.KindTimeout, faultAttempt, 1, 1},
		"a request that gets nowhere":        {"timeout", "upstream", `{"timeout":0}`, broker.KindTimeout, faultAttempt, 1, 0},
		"an answer that gets nowhere":        {"timeout", "downstream", `{"timeout":0}`, broker.KindTimeout, faultAttempt, 1, 1},
		"closed without an answer":           {"timeout", "downstream", `{"timeout":50}`, broker.KindUpstream, 0, 2, 2},
		"reset instead of an answer":         {"reset_peer", "downstream", `{"timeout":0}`, broker.KindUpstream, 0, 2, 2},
		"cut in the middle of the header":    {"limit_data", "downstream", `{"bytes":20}`, broker.KindUpstream, 0, 2, 2},
		"cut in the middle of the body":      {"limit_data", "downstream", `{"bytes":420}`, broker.KindUpstream, 0, 2, 2},
		"an answer of a bandwidth too small": {"bandwidth", "downstream", `{"rate":0}`, broker.KindTimeout, faultAttempt, 1, 1},
	} {
		t.Run(name, func(t *testing.T) {
			r := newFaultRig(t, faultOptions{})
			r.gather()
			r.network.poison(c.kind, c.stream, c.attributes)
			for _, a := range r.crowd(64, all("github"), seldom) {
				if c.failure == 0 {
					r.gets(a, "github")
					require.Less(t, a.took, c.within+faultSlack)
					continue
				}
				e := r.fails(a, c.failure, c.within+faultSlack)
				require.Positive(t, e.RetryAfter)
			}
			r.spent(c.booked, c.seen)
			if c.failure == 0 {
				return
			}
			// Who can't wait for the end of the cool-down is told at once.
			r.fails(r.ask("github", "uid:1000", time.Millisecond), c.failure, atOnce)
			r.spent(c.booked, c.seen)
			require.Equal(t, 1, r.lines("WARN"), "one line for an outage")
			r.network.heal()
			r.vault.ClearFaults()
			r.back("github")
			require.Equal(t, 1, r.lines("INFO"), "and one for its end")
		})
	}
}

func TestNobodyListens(t *testing.T) {
	r := newFaultRig(t, faultOptions{broker: broker.Tunables{CooldownMin: faultSlack / 2}})
	r.network.refuses(func() {
		e := r.fails(r.ask("github", "uid:1000", 20*time.Second), broker.KindUpstream, faultSlack)
		require.Contains(t, e.Message, "connection refused")
		// An attempt and its retry have spent a slot each, since nobody can tell
		// from here what a connection that failed has cost.
		r.spent(2, 0)
		for _, a := range r.crowd(64, func(i int) string { return fmt.Sprint("s", i) }, time.Millisecond) {
			e := r.fails(a, broker.KindUpstream, faultSlack)
			require.Contains(t, e.Message, "connection refused", "the failure is the same for all")
		}
		r.spent(2, 0)
		require.Equal(t, 1, r.lines("WARN"))
	})
	// One probe first, and then the others: all get theirs.
	names := []string{"github", "slack", "jira", "gitlab"}
	for i, a := range r.crowd(32, func(i int) string { return names[i%4] }, 5*time.Second) {
		r.gets(a, names[i%4])
	}
	r.spent(2+4, 4)
	require.Equal(t, 1, r.lines("INFO"))
}

// What is held outlives any outage, without waiting for the network.
func TestWhatIsHeldOutlivesTheNetwork(t *testing.T) {
	r := newFaultRig(t, faultOptions{})
	r.gets(r.ask("github", "uid:1000", 5*time.Second), "github")
	r.network.poison("timeout", "upstream", `{"timeout":0}`)
	r.fails(r.ask("slack", "uid:1000", 5*time.Second), broker.KindTimeout, faultAttempt+faultSlack)
	for _, a := range r.crowd(64, all("github"), 0) {
		r.gets(a, "github")
		require.Less(t, a.took, faultSlack)
	}
	require.Equal(t, 1, r.vault.Exchanges().Total)
}

// A connection that was kept for later may be dead by then, without a word or
// with one: one more attempt on a new connection does.
func TestAKeptConnectionDies(t *testing.T) {
	t.Run("closed while it was idle", func(t *testing.T) {
		r := newFaultRig(t, faultOptions{})
		r.gets(r.ask("github", "uid:1000", 5*time.Second), "github")
		r.network.refuses(func() {}) // closes all connections
		r.gets(r.ask("slack", "uid:1000", 5*time.Second), "slack")
		require.Equal(t, 2, r.vault.Exchanges().Total)
		require.LessOrEqual(t, r.budget.Status().Used, 3)
		require.Zero(t, r.lines("WARN"))
	})
	t.Run("reset as it is used again", func(t *testing.T) {
		r := newFaultRig(t, faultOptions{})
		r.gets(r.ask("github", "uid:1000", 5*time.Second), "github")
		r.misbehaves(devvault.Fault{Kind: devvault.FaultReset, Times: 1})
		r.gets(r.ask("slack", "uid:1000", 5*time.Second), "slack")
		r.spent(3, 3)
		require.Zero(t, r.lines("WARN"))
	})
}

// A caller that leaves a black hole fails nobody, and who would wait longer than
// a flight lasts gets its failure when it ends.
func TestCallersLeaveABlackHole(t *testing.T) {
	r := newFaultRig(t, faultOptions{})
	r.network.poison("timeout", "downstream", `{"timeout":0}`)
	answers := make(chan faultAnswer, 2)
	for _, wait := range []time.Duration{50 * time.Millisecond, 20 * time.Second} {
		go func() { answers <- r.ask("github", fmt.Sprint("uid:", wait), wait) }()
	}
	first := r.fails(<-answers, broker.KindTimeout, 50*time.Millisecond+faultSlack)
	require.Contains(t, first.Message, "wait longer")
	second := r.fails(<-answers, broker.KindTimeout, faultAttempt+faultSlack)
	require.Contains(t, second.Message, "did not answer in time")
	r.spent(1, 1)
}

// The exchange of a former consent hangs; nobody of the next one waits for it,
// and its answer is for nobody.
func TestAGrantSwapLeavesABlackHole(t *testing.T) {
	r := newFaultRig(t, faultOptions{})
	r.misbehaves(devvault.Fault{Kind: devvault.FaultHang, Times: 1})
	answers := make(chan faultAnswer, 1)
	go func() { answers <- r.ask("github", "uid:1000", 20*time.Second) }()
	require.Eventually(t, func() bool { return r.vault.Exchanges().Total == 1 }, 5*time.Second, time.Millisecond)
	r.newGrant()
	a := <-answers
	r.gets(a, "github")
	require.Less(t, a.took, faultAttempt, "it did not wait for the attempt that hangs")
	seen := r.vault.Exchanges().Exchanges
	require.Len(t, seen, 2)
	require.Equal(t, r.grantID, seen[1].GrantID)
}

func TestStoppingDoesNotWaitForABlackHole(t *testing.T) {
	r := newFaultRig(t, faultOptions{})
	r.misbehaves(devvault.Fault{Kind: devvault.FaultHang})
	answers := make(chan faultAnswer, 2)
	go func() { answers <- r.ask("github", "uid:1000", 20*time.Second) }()
	require.Eventually(t, func() bool { return r.vault.Exchanges().Total == 1 }, 5*time.Second, time.Millisecond)
	r.newGrant() // so that one of the flights is out of the books
	require.Eventually(t, func() bool { return r.vault.Exchanges().Total == 2 }, 5*time.Second, time.Millisecond)
	began := time.Now()
	r.stop()
	require.Less(t, time.Since(began), faultAttempt/2)
	require.ErrorContains(t, (<-answers).err, "stopping")
}

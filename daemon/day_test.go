package daemon

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

const (
	dayServices  = 40
	dayProcesses = 24
	dayLife      = time.Hour
	// dayEarly is how long before the old token expires the new one is stored.
	dayEarly = 10 * time.Minute
)

// TestADay lets 24 processes share 40 services for a day in which every token is
// rotated once an hour, and compares the departures with the fewest that would
// do: one for each rotation of a service, and one for each interval without any
// in which the grant has to be confirmed.
func TestADay(t *testing.T) {
	for name, phase := range map[string]time.Duration{
		"rotations spread over the hour": dayLife / dayServices,
		"all rotations at once":          0,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { simulateADay(t, phase) })
		})
	}
}

func simulateADay(t *testing.T, phase time.Duration) {
	s := newSim(t)
	defer s.stop()
	begin := s.vault.now()
	s.vault.credential = func(_, service string) (string, time.Time, bool) {
		i, err := strconv.Atoi(strings.TrimPrefix(service, "service-"))
		require.NoError(t, err)
		shift := time.Duration(i) * phase
		n := int((s.vault.now().Sub(begin) + shift + dayEarly) / dayLife)
		return fmt.Sprintf("%s-%d", service, n), begin.Add(time.Duration(n+1)*dayLife - shift), true
	}
	s.broker.SetGrant(simGrant("jwt", "grnt", 25*time.Hour))
	warm(t, s, dayServices)
	before := s.vault.departed()

	slowest, tokens := time.Duration(0), map[string]bool{}
	for s.vault.now().Sub(begin) < 24*time.Hour {
		for range dayProcesses {
			asked := time.Now()
			token, err := s.get(serviceName(rand.IntN(dayServices)), "uid:1000", 10*time.Second)
			require.NoError(t, err)
			slowest = max(slowest, time.Since(asked))
			tokens[token] = true
		}
		time.Sleep(10 * time.Second)
	}
	made := s.vault.departed() - before
	rotations, checks := len(tokens)-dayServices, s.vault.idleIntervals(before, 5*time.Minute)
	fewest := rotations + checks
	t.Logf("departures made: %d, the fewest possible: %d (%d rotations, %d checks), slowest read %s",
		made, fewest, rotations, checks, slowest)
	require.LessOrEqual(t, float64(made), 1.1*float64(fewest))
	require.LessOrEqual(t, slowest, s.vault.latency, "nobody waits longer than one round trip")
	require.Zero(t, s.vault.limited)
	s.requireNoProblems()
}

// idleIntervals counts the whole intervals since departure number first in which
// no credential changed, so that only a check of the grant could have left.
func (v *simVault) idleIntervals(first int, interval time.Duration) int {
	v.mu.Lock()
	defer v.mu.Unlock()
	n, last := 0, v.departures[first]
	for i, at := range v.departures[first:] {
		if v.rotated[first+i] {
			n += int(at.Sub(last) / interval)
			last = at
		}
	}
	return n
}

// warm reads every service once, within what the limit allows.
func warm(t *testing.T, s *sim, services int) {
	t.Helper()
	for i := range services {
		for {
			if _, err := s.get(serviceName(i), "uid:1000", time.Minute); err == nil {
				break
			}
			time.Sleep(time.Second)
		}
	}
}

package daemon

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/grantexd/grantexd/daemon/broker"
	"github.com/grantexd/grantexd/daemon/grant"
)

// defaultSequences keeps the unit tests quick; CI asks for more with
// GRANTEXD_SEQUENCES.
const defaultSequences = 300

// TestRandomSequences plays random sequences of callers, faults, grant changes
// and clock steps, and holds every answer against an oracle that knows only what
// time it is and which grant is in force: never expired, never of a grant that
// was not in force while the read lasted, never more than 20 departures in 60 s,
// one flight for a service, everyone answered by the deadline.
//
// GRANTEXD_SEED and GRANTEXD_SEQUENCES choose other sequences.
func TestRandomSequences(t *testing.T) {
	seed := uint64(envInt(t, "GRANTEXD_SEED", int(time.Now().UnixNano())))
	sequences := envInt(t, "GRANTEXD_SEQUENCES", defaultSequences)
	t.Logf("GRANTEXD_SEED=%d GRANTEXD_SEQUENCES=%d", seed, sequences)
	reads, answered := 0, 0
	for i := range sequences {
		synctest.Test(t, func(t *testing.T) {
			m := newModel(t, seed+uint64(i))
			defer func() {
				if t.Failed() {
					t.Logf("sequence %d, GRANTEXD_SEED=%d GRANTEXD_SEQUENCES=1:\n%s",
						i, seed+uint64(i), strings.Join(m.story, "\n"))
				}
			}()
			m.play()
			reads += m.reads
			answered += m.answered
		})
		if t.Failed() {
			return
		}
	}
	t.Logf("%d reads, %d of them answered with a credential", reads, answered)
	require.Greater(t, answered, reads/10, "sequences in which nothing is answered prove nothing")
}

func envInt(t *testing.T, name string, preset int) int {
	t.Helper()
	s := os.Getenv(name)
	if s == "" {
		return preset
	}
	n, err := strconv.Atoi(s)
	require.NoError(t, err, name)
	return n
}

// model is one sequence with its oracle.
type model struct {
	*sim
	rng     *rand.Rand
	readers sync.WaitGroup
	// fate decides for the vault, which asks it under its own lock.
	fate *rand.Rand

	mu sync.Mutex // guards the rest
	// inForce is the consent in force, "" for none; changes counts its changes,
	// and history what it was after each of them.
	inForce string
	history []string
	// expiries are those of the tokens that the vault ever gave.
	expiries map[string]time.Time
	stored   int
	tokens   int
	story    []string
	reads    int
	answered int
}

func newModel(t *testing.T, seed uint64) *model {
	t.Helper()
	m := &model{
		sim: newSim(t), rng: rand.New(rand.NewPCG(seed, 0)), fate: rand.New(rand.NewPCG(seed, 1)),
		expiries: map[string]time.Time{},
	}
	lives := []time.Duration{0, 3 * time.Second, 20 * time.Second, 2 * time.Minute, 20 * time.Minute, time.Hour}
	current := map[string]string{}
	m.vault.offset = []time.Duration{0, 0, 0, 2 * time.Minute, -2 * time.Minute}[m.rng.IntN(5)]
	// What the vault stores changes when it was asked often enough or when it
	// expired: sometimes late.
	m.vault.credential = func(grantToken, service string) (string, time.Time, bool) {
		if strings.HasPrefix(service, "invented") {
			return "", time.Time{}, false
		}
		consent, _, _ := strings.Cut(grantToken, ".")
		key := consent + "/" + service
		m.mu.Lock()
		defer m.mu.Unlock()
		if token, ok := current[key]; ok && m.fate.IntN(3) > 0 {
			return token, m.expiries[token], true
		}
		m.stored++
		token := fmt.Sprintf("%s/%s/%d", consent, service, m.stored)
		current[key] = token
		if life := lives[m.fate.IntN(len(lives))]; life != 0 {
			m.expiries[token] = m.vault.now().Add(m.vault.offset + life).Truncate(time.Millisecond)
		}
		return token, m.expiries[token], true
	}
	return m
}

func (m *model) tell(format string, args ...any) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.story = append(m.story, fmt.Sprintf("%s %s", time.Since(m.vault.start), fmt.Sprintf(format, args...)))
}

func (m *model) play() {
	defer m.stop()
	m.newToken("A")
	for range 20 + m.rng.IntN(40) {
		m.act()
		time.Sleep(time.Duration(m.rng.ExpFloat64() * float64(10*time.Second)))
	}
	m.readers.Wait()
	synctest.Wait()
	require.Empty(m.t, m.vault.problems)
	require.LessOrEqual(m.t, m.vault.mostIn(time.Minute), 20, "departures in 60 s")
}

// act does one random thing.
func (m *model) act() {
	switch n := m.rng.IntN(100); {
	case n < 60:
		for range 1 + m.rng.IntN(30) {
			m.read()
		}
	case n < 65:
		m.newToken(m.inForce)
	case n < 70:
		m.newToken([]string{"A", "B", "C"}[m.rng.IntN(3)])
	case n < 74:
		m.change("", grant.Snapshot{State: grant.Withdrawn})
	case n < 76:
		m.change("", grant.Snapshot{State: grant.Expired})
	case n < 84:
		m.newFault()
	case n < 88:
		m.tell("wall clock")
		m.clock.Step(time.Duration(m.rng.NormFloat64() * float64(5*time.Minute)))
	case n < 92:
		m.tell("suspend")
		m.clock.Suspend(time.Duration(m.rng.ExpFloat64() * float64(5*time.Minute)))
	case n < 95:
		m.tell("revoked")
		m.vault.set(func() { m.vault.revoked[m.inForce+"."+strconv.Itoa(m.tokens)] = true })
	default:
		m.tell("long sleep")
		time.Sleep(time.Duration(m.rng.ExpFloat64() * float64(10*time.Minute)))
	}
}

func (m *model) newToken(consent string) {
	if consent == "" {
		consent = "A"
	}
	m.tokens++
	m.change(consent, simGrant(consent+"."+strconv.Itoa(m.tokens), consent, 48*time.Hour))
}

// change puts another state of the grant in force, as the oracle sees it from
// the moment at which SetGrant returned.
func (m *model) change(consent string, s grant.Snapshot) {
	m.tell("grant %q %s", consent, s.State)
	m.mu.Lock()
	m.history = append(m.history, consent)
	m.mu.Unlock()
	m.broker.SetGrant(s)
	m.mu.Lock()
	m.inForce = consent
	m.mu.Unlock()
}

func (m *model) newFault() {
	share := m.rng.Float64()
	status := []int{0, 500, 503, 404, 401, 429}[m.rng.IntN(6)]
	latency := time.Duration(m.rng.ExpFloat64() * float64(time.Second))
	if m.rng.IntN(3) == 0 {
		share = 0 // the fault ends
	}
	m.tell("fault %d for %.0f %%, latency %s", status, 100*share, latency)
	m.vault.set(func() {
		m.vault.latency = latency
		m.vault.fault = func() (int, error) {
			if m.fate.Float64() >= share {
				return 0, nil
			}
			if status == 0 {
				return 0, errors.New("connection reset by peer")
			}
			return status, nil
		}
	})
}

// read starts a caller and judges what it gets.
func (m *model) read() {
	m.reads++
	r := broker.Request{
		Service: serviceName(m.rng.IntN(12)), Caller: fmt.Sprint("uid:", m.rng.IntN(4)),
		Wait: time.Duration(m.rng.ExpFloat64() * float64(5*time.Second)), NoCache: m.rng.IntN(10) == 0,
	}
	if m.rng.IntN(5) == 0 {
		r.Service = fmt.Sprint("invented-", m.rng.IntN(1000))
	}
	m.mu.Lock()
	begin, start := len(m.history)-1, time.Now()
	m.mu.Unlock()
	m.readers.Go(func() {
		a, err := m.broker.Get(m.t.Context(), r)
		m.mu.Lock()
		defer m.mu.Unlock()
		if took := time.Since(start); took > r.Wait {
			m.t.Errorf("a read with a wait of %s took %s", r.Wait, took)
		}
		if err != nil {
			return
		}
		m.answered++
		m.judge(a.Rendered.(string), m.history[begin:], r)
	})
}

// judge holds an answer against the oracle. m.mu is held.
func (m *model) judge(token string, inForce []string, r broker.Request) {
	parts := strings.Split(token, "/")
	if parts[1] != r.Service {
		m.t.Errorf("asked for %s, got %s", r.Service, token)
	}
	wasInForce := false
	for _, consent := range inForce {
		wasInForce = wasInForce || consent == parts[0]
	}
	if !wasInForce {
		m.t.Errorf("%s came while only %v were in force", token, inForce)
	}
	expires, ok := m.expiries[token]
	if !ok {
		return
	}
	for name, now := range map[string]time.Time{
		"this host's clock": m.clock.Now(), "the vault's clock": m.vault.now().Add(m.vault.offset),
	} {
		if !now.Before(expires) {
			m.t.Errorf("%s expired at %s, and it is %s by %s", token, expires, now, name)
		}
	}
}

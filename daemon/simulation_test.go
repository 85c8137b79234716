package daemon

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/grantexd/grantexd/daemon/broker"
	"github.com/grantexd/grantexd/daemon/grant"
	"github.com/grantexd/grantexd/upstream"
	"github.com/grantexd/grantexd/upstream/budget"
	"github.com/grantexd/grantexd/upstream/clock"
	"github.com/grantexd/grantexd/upstream/secret"
)

// simVault stands in for the network: a RoundTripper in virtual time that limits
// as the vault does and keeps what an oracle needs. It speaks the wire format but
// is no vault: what the real one does is tested with the embedded vault.
type simVault struct {
	clock *clock.Fake
	start time.Time

	mu sync.Mutex // guards the rest
	// credential returns what is stored for a service under a grant token;
	// ok is false for a 404.
	credential func(grantToken, service string) (token string, expires time.Time, ok bool)
	// fault, if it is not nil, may answer in the vault's place: a status, or an
	// error for a broken connection; 0 and nil leave it to the vault.
	fault func() (status int, err error)
	// revoked are the grant tokens that get a 401.
	revoked map[string]bool
	// offset is by how much its clock is ahead.
	offset  time.Duration
	latency time.Duration
	// spent counts the requests of the current window, which began at opened.
	spent  int
	opened time.Time
	// departures are the times at which requests left, suspended time included.
	departures []time.Time
	// rotated are the departures, by number, that brought a token which was
	// never handed out before.
	rotated  map[int]bool
	handed   map[string]bool
	limited  int
	inFlight map[string]int
	problems []string
}

func newSimVault(c *clock.Fake) *simVault {
	return &simVault{
		clock: c, start: time.Now(), latency: 50 * time.Millisecond,
		revoked: map[string]bool{}, inFlight: map[string]int{}, rotated: map[int]bool{}, handed: map[string]bool{},
	}
}

// now is the time that passes for machines and vaults alike: virtual time and
// what was slept through, but no steps of this host's clock.
func (v *simVault) now() time.Time { return v.start.Add(v.clock.Boot() - time.Hour) }

// RoundTrip implements [http.RoundTripper].
func (v *simVault) RoundTrip(req *http.Request) (*http.Response, error) {
	var body struct {
		Service string `json:"service"`
	}
	if err := json.NewDecoder(req.Body).Decode(&body); err != nil {
		return nil, err
	}
	grantToken := strings.TrimPrefix(req.Header.Get("Authorization"), "Bearer ")
	flight := grantToken + "/" + body.Service
	number, latency := v.leave(flight)
	defer v.land(flight)
	select {
	case <-time.After(latency):
	case <-req.Context().Done():
		return nil, req.Context().Err()
	}
	return v.answer(req, number, grantToken, body.Service)
}

// leave books a departure and returns its number.
func (v *simVault) leave(flight string) (int, time.Duration) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.departures = append(v.departures, v.now())
	v.inFlight[flight]++
	if v.inFlight[flight] > 1 {
		v.problems = append(v.problems, "two flights at once for "+flight)
	}
	return len(v.departures) - 1, v.latency
}

func (v *simVault) land(flight string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.inFlight[flight]--
}

func (v *simVault) answer(req *http.Request, number int, grantToken, service string) (*http.Response, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	now := v.now()
	if now.Sub(v.opened) >= time.Minute {
		v.opened, v.spent = now, 0
	}
	v.spent++
	header := http.Header{
		"Date":                  {now.Add(v.offset).UTC().Format(http.TimeFormat)},
		"Content-Type":          {"application/json; charset=utf-8"},
		"X-Ratelimit-Limit":     {"20"},
		"X-Ratelimit-Remaining": {strconv.Itoa(max(20-v.spent, 0))},
		"X-Ratelimit-Reset":     {strconv.Itoa(int((time.Minute - now.Sub(v.opened) + time.Second - 1) / time.Second))},
	}
	status, reply := v.decide(number, grantToken, service)
	if v.spent > 20 {
		v.limited++
		header.Set("Retry-After", header.Get("X-Ratelimit-Reset"))
		status, reply = 429, problem("BAD_REQUEST", "Rate limit exceeded")
	}
	if v.fault != nil {
		s, err := v.fault()
		if err != nil {
			return nil, err
		}
		if s != 0 {
			status, reply = s, problem("INTERNAL_ERROR", "An unexpected error occurred")
		}
	}
	content, err := json.Marshal(reply)
	if err != nil {
		return nil, err
	}
	return &http.Response{
		StatusCode: status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: header, Request: req,
		ContentLength: int64(len(content)), Body: io.NopCloser(bytes.NewReader(content)),
	}, nil
}

func problem(code, message string) map[string]any {
	return map[string]any{"code": code, "message": message, "requestId": "c7b0"}
}

func (v *simVault) decide(number int, grantToken, service string) (int, any) {
	if v.revoked[grantToken] {
		return 401, problem("UNAUTHORIZED", "Invalid or expired grant token")
	}
	token, expires, ok := v.credential(grantToken, service)
	if !ok {
		return 404, problem("NOT_FOUND", "No credential found for this principal and service")
	}
	if !v.handed[token] {
		v.handed[token], v.rotated[number] = true, true
	}
	reply := map[string]any{
		"accessToken": token, "service": service, "credentialType": "oauth2", "tokenExpiresAt": nil, "metadata": "{}",
	}
	if !expires.IsZero() {
		reply["tokenExpiresAt"] = expires.UTC().Format("2006-01-02T15:04:05.000Z")
	}
	return 200, reply
}

// set changes the vault between requests.
func (v *simVault) set(change func()) {
	v.mu.Lock()
	defer v.mu.Unlock()
	change()
}

// mostIn returns the most departures that any span of d holds, and forgets those
// that no later span can hold.
func (v *simVault) mostIn(d time.Duration) int {
	v.mu.Lock()
	defer v.mu.Unlock()
	most, first := 0, 0
	for last, at := range v.departures {
		for at.Sub(v.departures[first]) >= d {
			first++
		}
		most = max(most, last-first+1)
	}
	return most
}

func (v *simVault) departed() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return len(v.departures)
}

// sim is broker, budget and client joined as the daemon joins them, on a
// simVault.
type sim struct {
	t      *testing.T
	clock  *clock.Fake
	vault  *simVault
	budget *budget.Budget
	broker *broker.Broker
	stop   func()
}

// newSim starts one inside a bubble; stop must be called before the bubble ends.
func newSim(t *testing.T) *sim {
	t.Helper()
	c := clock.NewFake()
	s := &sim{t: t, clock: c, vault: newSimVault(c)}
	var err error
	s.budget, err = budget.New(budget.Options{Clock: c})
	require.NoError(t, err)
	client, err := upstream.New(upstream.Options{
		BaseURL: "https://vault.test", Transport: s.vault, Wrap: s.budget.Transport, Clock: c,
	})
	require.NoError(t, err)
	s.broker, err = broker.New(broker.Options{
		Upstream: client, Clock: c,
		Reread:      func(context.Context) error { return nil },
		Fingerprint: func(s secret.Text) string { return s.Reveal() },
		Render:      func(c *upstream.Credential, _ string) any { return c.AccessToken.Reveal() },
	})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.broker.Run(ctx) }()
	s.stop = func() {
		cancel()
		require.NoError(t, <-done)
	}
	return s
}

// simGrant is a usable grant of the given consent.
func simGrant(token, consent string, life time.Duration) grant.Snapshot {
	return grant.Snapshot{State: grant.Usable, Grant: &grant.Grant{
		Token: secret.New(token), Hash: sha256.Sum256([]byte(token)),
		Claims: grant.Claims{
			GrantID: consent, Subject: "user_1", Developer: "dev_1", Scopes: []string{"*"}, ScopesKnown: true,
			ExpiresAt: time.Now().Add(life),
		},
	}}
}

// get reads a service and returns the token.
func (s *sim) get(service, caller string, wait time.Duration) (string, error) {
	a, err := s.broker.Get(s.t.Context(), broker.Request{Service: service, Caller: caller, Wait: wait})
	if err != nil {
		return "", err
	}
	token, ok := a.Rendered.(string)
	if !ok {
		return "", errors.New("an answer without a credential")
	}
	return token, nil
}

// requireNoProblems fails the test with what the vault saw that must not be.
func (s *sim) requireNoProblems() {
	s.t.Helper()
	require.Empty(s.t, s.vault.problems)
	require.LessOrEqual(s.t, s.vault.mostIn(time.Minute), 20, "departures in 60 s")
}

func serviceName(i int) string { return fmt.Sprintf("service-%02d", i) }

package devvault

import (
	"fmt"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// TestWindow is a timeline of calls by one address: a fixed window of a minute
// that starts with its first call, and in which all calls count.
func TestWindow(t *testing.T) {
	const ms = time.Millisecond
	steps := []struct {
		name             string
		after            time.Duration // since the step before
		status           int
		remaining, reset string
		retryAfter       string
	}{
		{"the first call starts the window", 7 * time.Second, 401, "2", "60", ""},
		{"a moment later, rounded up", 1 * ms, 401, "1", "60", ""},
		{"20 s into it", 20*time.Second - 1*ms, 401, "0", "40", ""},
		{"one too many", 0, 429, "0", "40", "40"},
		{"429s don't extend it", 39 * time.Second, 429, "0", "1", "1"},
		{"its last moment", 1*time.Second - 1*ms, 429, "0", "1", "1"},
		{"the next one starts with its own first call", 1 * ms, 401, "2", "60", ""},
		{"long after", 300 * time.Second, 401, "2", "60", ""},
	}
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Options{RateLimit: 3})
		for _, step := range steps {
			time.Sleep(step.after)
			got := askFor(w.vault, "forged", "github")
			require.Equal(t, step.status, got.status, step.name)
			require.Equal(t, "3", got.header.Get("X-Ratelimit-Limit"), step.name)
			require.Equal(t, step.remaining, got.header.Get("X-Ratelimit-Remaining"), step.name)
			require.Equal(t, step.reset, got.header.Get("X-Ratelimit-Reset"), step.name)
			require.Equal(t, step.retryAfter, got.header.Get("Retry-After"), step.name)
		}
	})
}

// TestWaitingAsLongAsToldIsEnough comes back after exactly the time told.
func TestWaitingAsLongAsToldIsEnough(t *testing.T) {
	for _, into := range []time.Duration{0, time.Nanosecond, 999 * time.Millisecond, 59*time.Second + 1, time.Minute - 1} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, Options{RateLimit: 1})
			askFor(w.vault, "forged", "github")
			time.Sleep(into)
			got := askFor(w.vault, "forged", "github")
			require.Equal(t, 429, got.status)
			wait, err := strconv.Atoi(got.header.Get("Retry-After"))
			require.NoError(t, err)
			time.Sleep(time.Duration(wait) * time.Second)
			require.Equal(t, 401, askFor(w.vault, "forged", "github").status)
		})
	}
}

func TestEverythingCounts(t *testing.T) {
	s := newVault(t, Options{})
	token := mint(t, s, MintParams{Scopes: []string{"none:read"}})
	h := s.Handler()
	ask(h, "POST", pathExchange, "", github)      // 401
	ask(h, "POST", pathExchange, token, "{")      // 400
	ask(h, "POST", pathExchange, token, "")       // 500
	ask(h, "POST", pathExchange, token, "{}")     // 400
	ask(h, "POST", pathExchange, token, github)   // 403
	got := askFor(s, token, "none")               // 404
	ask(h, "POST", pathExchange+"/", token, "{}") // does not count
	require.Equal(t, 404, got.status)
	require.Equal(t, "14", got.header.Get("X-Ratelimit-Remaining"))
	require.Equal(t, map[int]int{401: 1, 400: 2, 500: 1, 403: 1, 404: 1}, s.Exchanges().ByStatus)
}

func TestLimitByAddress(t *testing.T) {
	s := newVault(t, Options{RateLimit: 1})
	one, two := mint(t, s, MintParams{}), mint(t, s, MintParams{})
	from := func(remote, token string) int {
		return askFrom(s.Handler(), remote, "POST", pathExchange, token, github).status
	}
	require.Equal(t, 404, from("192.0.2.1:1000", one))
	require.Equal(t, 429, from("192.0.2.1:2000", two), "another token and port, the same address")
	require.Equal(t, 404, from("192.0.2.2:1000", one), "the same token, another address")
	require.Equal(t, 404, from("[2001:db8::1]:1", one))
	require.Equal(t, 429, from("[2001:db8::1]:2", one))
	require.Equal(t, 404, from("pipe", one))
	require.Equal(t, 429, from("pipe", one))
}

func TestLimitByToken(t *testing.T) {
	s := newVault(t, Options{RateLimit: 1, RateBy: RateByToken})
	one, two := mint(t, s, MintParams{}), mint(t, s, MintParams{})
	from := func(remote, token string) int {
		return askFrom(s.Handler(), remote, "POST", pathExchange, token, github).status
	}
	require.Equal(t, 404, from("192.0.2.1:1", one))
	require.Equal(t, 404, from("192.0.2.1:1", two), "another token")
	require.Equal(t, 429, from("192.0.2.2:1", one), "the same token elsewhere")
	require.Equal(t, 401, from("192.0.2.1:1", ""), "no token: by address")
	require.Equal(t, 429, from("192.0.2.1:1", ""))
	for key := range s.limits.exchange.windows {
		require.NotContains(t, key, one)
	}
}

func TestNoLimit(t *testing.T) {
	s := newVault(t, Options{RateLimit: -1})
	for range 3 * DefaultRateLimit {
		require.Equal(t, 401, askFor(s, "forged", "github").status)
	}
}

// TestDeveloperLimits: stores, deletes and the rest are limited by address
// before the key is looked at, and all of them by plan after it.
func TestDeveloperLimits(t *testing.T) {
	cases := []struct {
		name, method, path string
		limit              int
	}{
		{"store", "POST", pathCredentials, writesPerWindow},
		{"delete", "DELETE", pathCredentials + "/vault_x", writesPerWindow},
		{"list", "GET", pathCredentials, generalPerWindow},
		{"get", "GET", pathCredentials + "/vault_x", generalPerWindow},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			s := newVault(t, Options{})
			for range tc.limit {
				require.Equal(t, 401, ask(s.Handler(), tc.method, tc.path, "", "").status)
			}
			got := ask(s.Handler(), tc.method, tc.path, testAPIKey, "")
			require.Equal(t, 429, got.status, "before the key")
			require.Equal(t, "BAD_REQUEST", got.member(t, "code"))
			require.Equal(t, strconv.Itoa(tc.limit), got.header.Get("X-Ratelimit-Limit"))
			require.Equal(t, 429, ask(s.Handler(), tc.method, tc.path, "", "").status)
			require.Equal(t, 401, askFrom(s.Handler(), "192.0.2.9:1", tc.method, tc.path, "", "").status)
			require.Equal(t, 401, askFor(s, "forged", "github").status, "the exchange has a window of its own")
		})
	}
}

func TestPlanLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Options{})
		list := func(i int) reply {
			return askFrom(w.vault.Handler(), fmt.Sprintf("192.0.2.%d:1", i), "GET", pathCredentials, testAPIKey, "")
		}
		for i := range planPerWindow {
			got := list(i)
			require.Equal(t, 200, got.status)
			require.Equal(t, strconv.Itoa(planPerWindow-1-i), got.header.Get("X-Ratelimit-Remaining"))
		}
		time.Sleep(15 * time.Second)
		got := list(200)
		require.Equal(t, 429, got.status, "whatever the address")
		require.Equal(t, "RATE_LIMIT_EXCEEDED", got.member(t, "code"))
		require.Equal(t, "Plan rate limit exceeded, retry in 45 seconds", got.message(t))
		require.Equal(t, "45", got.header.Get("Retry-After"))
		time.Sleep(45 * time.Second)
		require.Equal(t, 200, list(200).status)
	})
}

func TestNoDeveloperLimits(t *testing.T) {
	s := newVault(t, Options{NoDeveloperLimits: true})
	for i := range planPerWindow + 1 {
		body := credentialBody(fmt.Sprintf("service-%d", i), "made-up", "")
		require.Equal(t, 201, ask(s.Handler(), "POST", pathCredentials, testAPIKey, body).status)
	}
	for range DefaultRateLimit {
		askFor(s, "forged", "github")
	}
	require.Equal(t, 429, askFor(s, "forged", "github").status, "the exchange keeps its limit")
}

func TestKeySetIsNeverLimited(t *testing.T) {
	s := newVault(t, Options{})
	for range generalPerWindow + 1 {
		ask(s.Handler(), "GET", pathHealth, "", "")
	}
	require.Equal(t, 429, ask(s.Handler(), "GET", pathHealth, "", "").status)
	got := ask(s.Handler(), "GET", pathKeySet, "", "")
	require.Equal(t, 200, got.status)
	require.Empty(t, got.header.Get("X-Ratelimit-Limit"))
}

func TestLimiterForgetsEndedWindows(t *testing.T) {
	l := newLimiter(1, time.Minute)
	start := time.Now()
	for i := range sweepAt {
		l.count(strconv.Itoa(i), start)
	}
	l.count("within", start.Add(time.Minute-1))
	require.Len(t, l.windows, sweepAt+1, "nothing has ended yet")
	l.count("after", start.Add(time.Minute))
	require.Len(t, l.windows, 2)
	require.Zero(t, l.count("within", start.Add(time.Minute)).remaining)
}

func TestInWords(t *testing.T) {
	cases := map[time.Duration]string{
		0:                         "0 seconds",
		1:                         "1 second",
		time.Second:               "1 second",
		time.Second + 1:           "2 seconds",
		40 * time.Second:          "40 seconds",
		59 * time.Second:          "59 seconds",
		59*time.Second + 1:        "1 minute",
		time.Minute:               "1 minute",
		89 * time.Second:          "1 minute",
		90 * time.Second:          "2 minutes",
		59 * time.Minute:          "59 minutes",
		time.Hour:                 "1 hour",
		90 * time.Minute:          "2 hours",
		24 * time.Hour:            "1 day",
		60 * time.Hour:            "3 days",
		3599*time.Second + 1*1000: "1 hour",
	}
	for d, want := range cases {
		require.Equal(t, want, inWords(d), d.String())
	}
}

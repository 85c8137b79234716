package devvault

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/grantexd/grantexd/upstream/secret"
)

// inBubble runs f with a vault that holds a credential for github, and a token
// that opens it.
func inBubble(t *testing.T, o Options, f func(t *testing.T, w *world, token string)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, o)
		_, err := w.vault.Store(CredentialParams{Service: "github", AccessToken: secret.New("gho_made-up")})
		require.NoError(t, err)
		f(t, w, mint(t, w.vault, MintParams{}))
	})
}

func (w *world) fault(f Fault) int {
	w.t.Helper()
	id, err := w.vault.AddFault(f)
	require.NoError(w.t, err)
	return id
}

// TestFaultAnswers covers the faults that replace the answer.
func TestFaultAnswers(t *testing.T) {
	cases := []struct {
		name    string
		f       Fault
		status  int
		message string // "" where the body is not the vault's
		body    string
		vaults  bool // the answer has the vault's headers
		limited bool // and those of the rate limit
	}{
		{"status by default", Fault{Kind: FaultStatus}, 503, "An unexpected error occurred", "", true, true},
		{"status 500", Fault{Kind: FaultStatus, Status: 500}, 500, "An unexpected error occurred", "", true, true},
		{"status 403", Fault{Kind: FaultStatus, Status: 403}, 403, "Request failed", "", true, true},
		{"status 404", Fault{Kind: FaultStatus, Status: 404}, 404, "Request failed", "", true, true},
		{"status 418", Fault{Kind: FaultStatus, Status: 418}, 418, "Request failed", "", true, true},
		{"status 401", Fault{Kind: FaultStatus, Status: 401}, 401, "Request failed", "", true, true},
		{"a proxy's page", Fault{Kind: FaultStatus, Status: 502, Body: "<h1>no</h1>"}, 502, "", "<h1>no</h1>", false, false},
		{"no content", Fault{Kind: FaultStatus, Status: 204}, 204, "", "", true, true},
		{"401", Fault{Kind: FaultUnauthorized}, 401, "Invalid or expired grant token", "", true, true},
		{"401 missing", Fault{Kind: FaultUnauthorized, As: AsMissing}, 401, "Missing grant token", "", true, true},
		{"401 of a wrong path", Fault{Kind: FaultUnauthorized, As: AsAPIKey}, 401, "Invalid API key", "", true, false},
		{"401 of a proxy", Fault{Kind: FaultUnauthorized, As: AsProxy}, 401, "",
			"<html><h1>401 Unauthorized</h1></html>\n", false, false},
		{"429", Fault{Kind: FaultRateLimit, RetryAfter: 40 * time.Second}, 429,
			"Rate limit exceeded, retry in 40 seconds", "", true, true},
		{"malformed by default", Fault{Kind: FaultMalformed}, 200, "", "this is not JSON", true, true},
		{"malformed", Fault{Kind: FaultMalformed, Body: `{"accessToken":7}`}, 200, "", `{"accessToken":7}`, true, true},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			inBubble(t, Options{}, func(t *testing.T, w *world, token string) {
				w.fault(tc.f)
				got, err := w.exchange(t.Context(), token, "github")
				require.NoError(t, err)
				require.Equal(t, tc.status, got.status)
				if tc.message != "" {
					require.Equal(t, tc.message, got.message(t))
				} else {
					require.Equal(t, tc.body, got.body)
				}
				require.Equal(t, tc.vaults, got.header.Get("X-Frame-Options") == "DENY")
				require.Equal(t, tc.limited, got.header.Get("X-Ratelimit-Limit") == "20")
				require.NotContains(t, got.body, "gho_made-up")
				require.Equal(t, tc.status, w.vault.Exchanges().Exchanges[0].Status)

				w.vault.ClearFaults()
				got, err = w.exchange(t.Context(), token, "github")
				require.NoError(t, err)
				require.Equal(t, 200, got.status)
				require.Equal(t, "18", got.header.Get("X-Ratelimit-Remaining"), "a spoilt call counts")
			})
		})
	}
}

func TestFaultCodes(t *testing.T) {
	for status, code := range map[int]string{
		401: codeUnauthorized, 403: codeForbidden, 404: codeNotFound, 418: codeBadRequest, 500: codeInternal, 302: codeInternal,
	} {
		require.Equal(t, code, codeOf(status))
	}
}

func TestRateLimitFault(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, w *world, token string) {
		w.fault(Fault{Kind: FaultRateLimit, RetryAfter: 90*time.Minute + 1})
		got, err := w.exchange(t.Context(), token, "github")
		require.NoError(t, err)
		require.Equal(t, "5401", got.header.Get("Retry-After"))
		require.Equal(t, "5401", got.header.Get("X-Ratelimit-Reset"))
		require.Equal(t, "0", got.header.Get("X-Ratelimit-Remaining"))
		require.Equal(t, "BAD_REQUEST", got.member(t, "code"))
	})
}

// TestRealLimitComesFirst: while everything fails, too many calls are still told
// so.
func TestRealLimitComesFirst(t *testing.T) {
	inBubble(t, Options{RateLimit: 1}, func(t *testing.T, w *world, token string) {
		w.fault(Fault{Kind: FaultStatus})
		require.Equal(t, 503, askFor(w.vault, token, "github").status)
		require.Equal(t, 429, askFor(w.vault, token, "github").status)
	})
}

func TestLatency(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, w *world, token string) {
		w.fault(Fault{Kind: FaultLatency, Delay: 300 * time.Millisecond})
		w.fault(Fault{Kind: FaultLatency, Delay: 200 * time.Millisecond})
		start := time.Now()
		got, err := w.exchange(t.Context(), token, "github")
		require.NoError(t, err)
		require.Equal(t, 200, got.status)
		require.Equal(t, 500*time.Millisecond, time.Since(start), "delays add up")
	})
}

func TestHangUntilRemoved(t *testing.T) {
	for name, end := range map[string]func(w *world, id int){
		"one":   func(w *world, id int) { require.True(w.t, w.vault.RemoveFault(id)) },
		"all":   func(w *world, _ int) { w.vault.ClearFaults() },
		"reset": func(w *world, _ int) { w.vault.Reset() },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, Options{}, func(t *testing.T, w *world, token string) {
				id := w.fault(Fault{Kind: FaultHang})
				time.AfterFunc(time.Hour, func() { end(w, id) })
				start := time.Now()
				got, err := w.exchange(t.Context(), token, "github")
				require.NoError(t, err)
				require.Equal(t, 200, got.status)
				require.Equal(t, time.Hour, time.Since(start))
			})
		})
	}
}

// TestHangEndsWithTheVault: nothing hangs in a vault that was closed.
func TestHangEndsWithTheVault(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, w *world, token string) {
		w.fault(Fault{Kind: FaultHang})
		w.fault(Fault{Kind: FaultHang, CountLate: true})
		time.AfterFunc(time.Minute, func() { _ = w.vault.Close() })
		got, err := w.exchange(t.Context(), token, "github")
		require.NoError(t, err)
		require.Empty(t, got.body)
	})
}

// TestCountLate: a caller gives up, and its call counts later all the same.
func TestCountLate(t *testing.T) {
	cases := []struct {
		name      string
		f         Fault
		countedAt time.Duration
	}{
		{"as it arrives", Fault{Kind: FaultHang, Delay: 20 * time.Second}, 0},
		{"late", Fault{Kind: FaultHang, Delay: 20 * time.Second, CountLate: true}, 20 * time.Second},
		{"late latency", Fault{Kind: FaultLatency, Delay: 5 * time.Second, CountLate: true}, 5 * time.Second},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			inBubble(t, Options{}, func(t *testing.T, w *world, token string) {
				tc.f.Times = 1
				w.fault(tc.f)
				start := time.Now()
				ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
				defer cancel()
				_, err := w.exchange(ctx, token, "github")
				require.ErrorIs(t, err, context.DeadlineExceeded)
				time.Sleep(time.Minute)

				report := w.vault.Exchanges()
				require.Len(t, report.Exchanges, 1)
				require.Equal(t, tc.countedAt, report.Exchanges[0].CountedAt.Sub(start))
				require.Zero(t, report.Exchanges[0].At.Sub(start))
				require.Zero(t, report.Exchanges[0].Status, "nobody heard an answer")
				require.Empty(t, report.ByStatus)
			})
		})
	}
}

// TestLateCountsFillTheWindow: a stalled vault sees at once what was sent over a
// while.
func TestLateCountsFillTheWindow(t *testing.T) {
	inBubble(t, Options{RateLimit: 2}, func(t *testing.T, w *world, token string) {
		id := w.fault(Fault{Kind: FaultHang, CountLate: true})
		for range 3 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			_, err := w.exchange(ctx, token, "github")
			require.ErrorIs(t, err, context.DeadlineExceeded)
			cancel()
		}
		require.Zero(t, w.vault.Exchanges().MaxInWindow)
		w.vault.RemoveFault(id)
		synctest.Wait()
		require.Equal(t, 3, w.vault.Exchanges().MaxInWindow)
		got, err := w.exchange(t.Context(), token, "github")
		require.NoError(t, err)
		require.Equal(t, 429, got.status)
	})
}

// TestRevokedWhileItHangs: what counts is the state when the vault gets to it.
func TestRevokedWhileItHangs(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, w *world, _ string) {
		token, claims, err := w.vault.Mint(MintParams{})
		require.NoError(t, err)
		w.fault(Fault{Kind: FaultHang, Delay: 10 * time.Second})
		time.AfterFunc(time.Second, func() { _ = w.vault.Revoke(claims.GrantID) })
		got, err := w.exchange(t.Context(), token.Reveal(), "github")
		require.NoError(t, err)
		require.Equal(t, 401, got.status)
	})
}

func TestTruncate(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, w *world, token string) {
		w.fault(Fault{Kind: FaultTruncate})
		got, err := w.exchange(t.Context(), token, "github")
		require.ErrorIs(t, err, io.ErrUnexpectedEOF)
		require.Equal(t, 200, got.status)
		require.NotEmpty(t, got.body)
		require.False(t, json.Valid([]byte(got.body)))
	})
}

func TestOversize(t *testing.T) {
	for name, size := range map[string]int{"by default": 0, "given": 1<<20 + 1} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, Options{}, func(t *testing.T, w *world, token string) {
				w.fault(Fault{Kind: FaultOversize, Size: size})
				got, err := w.exchange(t.Context(), token, "github")
				require.NoError(t, err)
				if size == 0 {
					size = defaultOversize
				}
				require.Len(t, got.body, size)
				require.Equal(t, "gho_made-up", got.member(t, "accessToken"), "it stays well formed")
			})
		})
	}
}

func TestSlow(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, w *world, token string) {
		w.fault(Fault{Kind: FaultSlow, Delay: 100 * time.Millisecond})
		start := time.Now()
		got, err := w.exchange(t.Context(), token, "github")
		require.NoError(t, err)
		require.Equal(t, "gho_made-up", got.member(t, "accessToken"))
		require.Equal(t, time.Duration(len(got.body))*100*time.Millisecond, time.Since(start))

		w.vault.ClearFaults()
		w.fault(Fault{Kind: FaultSlow})
		start = time.Now()
		got, err = w.exchange(t.Context(), token, "github")
		require.NoError(t, err)
		require.Equal(t, time.Duration(len(got.body))*defaultSlow, time.Since(start))

		ctx, cancel := context.WithTimeout(t.Context(), 5*defaultSlow)
		defer cancel()
		got, err = w.exchange(ctx, token, "github")
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Less(t, len(got.body), 6)
	})
}

func TestReset(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, w *world, token string) {
		w.fault(Fault{Kind: FaultReset})
		_, err := w.exchange(t.Context(), token, "github")
		require.ErrorIs(t, err, io.EOF)
		report := w.vault.Exchanges()
		require.Equal(t, 1, report.MaxInWindow, "it was counted")
		require.Zero(t, report.Exchanges[0].Status, "it was not answered")
	})
}

// TestResetOverTCP: a real peer sees its connection reset, not just ended.
func TestResetOverTCP(t *testing.T) {
	s := newVault(t, Options{})
	_, err := s.AddFault(Fault{Kind: FaultReset, On: OnAll})
	require.NoError(t, err)
	server := httptest.NewServer(s.Handler())
	defer server.Close()
	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	require.NoError(t, err)
	defer func() { _ = conn.Close() }()
	_, err = io.WriteString(conn, request("GET", pathHealth, "", "", ""))
	require.NoError(t, err)
	_, err = io.ReadAll(conn)
	require.ErrorIs(t, err, syscall.ECONNRESET)
}

// TestResetWithoutHijack: a writer that can't be taken over is left to the
// server, which closes the connection.
func TestResetWithoutHijack(t *testing.T) {
	s := newVault(t, Options{})
	_, err := s.AddFault(Fault{Kind: FaultReset, On: OnAll})
	require.NoError(t, err)
	require.PanicsWithValue(t, http.ErrAbortHandler, func() { ask(s.Handler(), "GET", pathHealth, "", "") })
}

func TestTimes(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, w *world, token string) {
		w.fault(Fault{Kind: FaultStatus, Status: 500, Times: 2})
		var statuses []int
		for range 4 {
			statuses = append(statuses, askFor(w.vault, token, "github").status)
		}
		require.Equal(t, []int{500, 500, 200, 200}, statuses)
		require.Equal(t, 2, w.vault.Faults()[0].Applied)
	})
}

func TestShare(t *testing.T) {
	cases := []struct {
		share float64
		want  string // x: fails
	}{
		{0.25, "...x...x...x"},
		{0.5, ".x.x.x.x.x.x"},
		{0.75, ".xxx.xxx.xxx"},
		{1, "xxxxxxxxxxxx"},
		{0.1, ".........x.."},
	}
	for _, tc := range cases {
		t.Run(tc.want, func(t *testing.T) {
			inBubble(t, Options{}, func(t *testing.T, w *world, token string) {
				w.fault(Fault{Kind: FaultStatus, Share: tc.share})
				got := ""
				for range len(tc.want) {
					if askFor(w.vault, token, "github").status == 200 {
						got += "."
					} else {
						got += "x"
					}
				}
				require.Equal(t, tc.want, got)
			})
		})
	}
}

// TestShareOfTimes: times counts the calls that it applies to, not those it
// spares.
func TestShareOfTimes(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, w *world, token string) {
		w.fault(Fault{Kind: FaultStatus, Share: 0.5, Times: 2})
		failed := 0
		for range 10 {
			if askFor(w.vault, token, "github").status != 200 {
				failed++
			}
		}
		require.Equal(t, 2, failed)
	})
}

func TestOneService(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, w *world, token string) {
		_, err := w.vault.Store(CredentialParams{Service: "slack", AccessToken: secret.New("x")})
		require.NoError(t, err)
		w.fault(Fault{Kind: FaultStatus, Service: "slack"})
		require.Equal(t, 200, askFor(w.vault, token, "github").status)
		require.Equal(t, 503, askFor(w.vault, token, "slack").status)
		require.Equal(t, 400, ask(w.vault.Handler(), "POST", pathExchange, token, "{}").status)
	})
}

func TestOn(t *testing.T) {
	paths := []struct{ group, method, path string }{
		{OnExchange, "POST", pathExchange},
		{OnDeveloper, "POST", pathCredentials},
		{OnDeveloper, "GET", pathCredentials},
		{OnDeveloper, "GET", pathCredentials + "/vault_x"},
		{OnDeveloper, "DELETE", pathCredentials + "/vault_x"},
		{OnHealth, "GET", pathHealth},
		{"", "GET", pathKeySet},
		{"", "GET", "/wrong"},
	}
	for _, on := range []string{"", OnExchange, OnDeveloper, OnHealth, OnAll} {
		t.Run("on "+on, func(t *testing.T) {
			s := newVault(t, Options{})
			_, err := s.AddFault(Fault{Kind: FaultStatus, Status: 599, On: on})
			require.NoError(t, err)
			for _, p := range paths {
				spoilt := on == OnAll || on == p.group && on != "" || on == "" && p.group == OnExchange
				got := ask(s.Handler(), p.method, p.path, "", "")
				require.Equal(t, spoilt, got.status == 599, p.method+" "+p.path)
			}
		})
	}
}

// TestFirstReplacementWins, and what happens on the way comes on top.
func TestFirstReplacementWins(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, w *world, token string) {
		w.fault(Fault{Kind: FaultStatus, Status: 500, Times: 1})
		w.fault(Fault{Kind: FaultUnauthorized})
		w.fault(Fault{Kind: FaultTruncate})
		got, err := w.exchange(t.Context(), token, "github")
		require.ErrorIs(t, err, io.ErrUnexpectedEOF)
		require.Equal(t, 500, got.status)
		got, err = w.exchange(t.Context(), token, "github")
		require.ErrorIs(t, err, io.ErrUnexpectedEOF)
		require.Equal(t, 401, got.status)
	})
}

func TestFaultsThatMakeNoSense(t *testing.T) {
	cases := []struct {
		name string
		f    Fault
		want string
	}{
		{"no kind", Fault{}, `kind "" is none of`},
		{"unknown kind", Fault{Kind: "sulk"}, `kind "sulk" is none of`},
		{"unknown group", Fault{Kind: FaultReset, On: "store"}, `on "store" is none of`},
		{"service of a list", Fault{Kind: FaultReset, On: OnDeveloper, Service: "github"}, "only exchanges have a service"},
		{"negative times", Fault{Kind: FaultReset, Times: -1}, "times is negative"},
		{"negative share", Fault{Kind: FaultReset, Share: -0.1}, "share is not between"},
		{"share over 1", Fault{Kind: FaultReset, Share: 1.01}, "share is not between"},
		{"negative delay", Fault{Kind: FaultHang, Delay: -1}, "can't be negative"},
		{"negative retryAfter", Fault{Kind: FaultRateLimit, RetryAfter: -1}, "can't be negative"},
		{"latency of nothing", Fault{Kind: FaultLatency}, "latency needs a delay"},
		{"429 without a time", Fault{Kind: FaultRateLimit}, "rate-limit needs a retryAfter"},
		{"status 199", Fault{Kind: FaultStatus, Status: 199}, "status is not between"},
		{"status 600", Fault{Kind: FaultStatus, Status: 600}, "status is not between"},
		{"negative size", Fault{Kind: FaultOversize, Size: -1}, "size is not between"},
		{"enormous size", Fault{Kind: FaultOversize, Size: maxOversize + 1}, "size is not between"},
		{"unknown 401", Fault{Kind: FaultUnauthorized, As: "x"}, `as "x" is none of`},
		{"delay of another kind", Fault{Kind: FaultReset, Delay: 1}, "has no delay"},
		{"countLate of another kind", Fault{Kind: FaultSlow, CountLate: true}, "has no countLate"},
		{"status of another kind", Fault{Kind: FaultHang, Status: 500}, "has no status"},
		{"body of another kind", Fault{Kind: FaultUnauthorized, Body: "x"}, "has no body"},
		{"as of another kind", Fault{Kind: FaultStatus, As: AsProxy}, "has no as"},
		{"retryAfter of another kind", Fault{Kind: FaultStatus, Status: 503, RetryAfter: 1}, "has no retryAfter"},
		{"size of another kind", Fault{Kind: FaultTruncate, Size: 7}, "has no size"},
	}
	s := newVault(t, Options{})
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			_, err := s.AddFault(tc.f)
			require.ErrorContains(t, err, tc.want)
			require.Empty(t, s.Faults())
		})
	}
}

func TestNumberOfFaults(t *testing.T) {
	s := newVault(t, Options{})
	for range maxFaults {
		_, err := s.AddFault(Fault{Kind: FaultReset, On: OnHealth})
		require.NoError(t, err)
	}
	_, err := s.AddFault(Fault{Kind: FaultReset})
	require.ErrorContains(t, err, "remove some")
	require.True(t, s.RemoveFault(s.Faults()[0].ID))
	id, err := s.AddFault(Fault{Kind: FaultReset})
	require.NoError(t, err)
	require.Equal(t, maxFaults+1, id, "ids are not used again")
	require.False(t, s.RemoveFault(1))
}

func TestClockThatIsOff(t *testing.T) {
	cases := []struct {
		name   string
		offset time.Duration
		date   string
		status int // of a token that lives for an hour
	}{
		{"right", 0, "Mon, 07 Sep 2026 09:29:00 GMT", 200},
		{"ahead", 10 * time.Minute, "Mon, 07 Sep 2026 09:39:00 GMT", 200},
		{"behind", -90 * time.Minute, "Mon, 07 Sep 2026 07:59:00 GMT", 200},
		{"ahead of the token's end", time.Hour, "Mon, 07 Sep 2026 10:29:00 GMT", 401},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			inBubble(t, Options{}, func(t *testing.T, w *world, _ string) {
				token := mint(t, w.vault, MintParams{Life: time.Hour})
				w.vault.SetClockOffset(tc.offset)
				got, err := w.exchange(t.Context(), token, "github")
				require.NoError(t, err)
				require.Equal(t, tc.date, got.header.Get("Date"))
				require.Equal(t, tc.status, got.status)
				require.Equal(t, "60", got.header.Get("X-Ratelimit-Reset"), "windows don't follow it")

				w.vault.Reset()
				got, err = w.exchange(t.Context(), token, "github")
				require.NoError(t, err)
				require.Equal(t, "Mon, 07 Sep 2026 09:29:00 GMT", got.header.Get("Date"))
				require.Equal(t, 200, got.status)
			})
		})
	}
}

func TestExchangeLog(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, w *world, token string) {
		start := time.Now()
		claims := w.vault.Grants()[0]
		askFor(w.vault, token, "github")
		time.Sleep(time.Second)
		askFor(w.vault, token, "none")
		askFor(w.vault, "forged.token.x", "github")
		ask(w.vault.Handler(), "POST", pathExchange, token, `{"service":"not a name"}`)

		report := w.vault.Exchanges()
		require.Equal(t, 4, report.Total)
		require.Equal(t, 4, report.MaxInWindow)
		require.Equal(t, time.Minute, report.Window)
		require.Equal(t, map[int]int{200: 1, 404: 1, 401: 1, 400: 1}, report.ByStatus)
		now := start.Add(time.Second).UTC()
		want := []Exchange{
			{At: start.UTC(), CountedAt: start.UTC(), GrantID: claims.ID, Service: "github", Status: 200},
			{At: now, CountedAt: now, GrantID: claims.ID, Service: "none", Status: 404},
			{At: now, CountedAt: now, Service: "github", Status: 401},
			{At: now, CountedAt: now, GrantID: claims.ID, Status: 400},
		}
		require.Equal(t, want, report.Exchanges)

		w.vault.ResetExchanges()
		require.Equal(t, Exchanges{
			ByStatus: map[int]int{}, Window: time.Minute, Exchanges: []Exchange{},
		}, w.vault.Exchanges())
	})
}

// TestExpiredGrantIsNamed: a grant that is refused is still told by its id.
func TestExpiredGrantIsNamed(t *testing.T) {
	s := newVault(t, Options{})
	token, claims, err := s.Mint(MintParams{Life: -time.Hour})
	require.NoError(t, err)
	require.Equal(t, 401, askFor(s, token.Reveal(), "github").status)
	require.Equal(t, claims.GrantID, s.Exchanges().Exchanges[0].GrantID)
}

// TestMaxInWindow looks at windows that start anywhere, unlike the rate limit's.
func TestMaxInWindow(t *testing.T) {
	cases := []struct {
		name  string
		calls []time.Duration
		want  int
	}{
		{"none", nil, 0},
		{"all at once", []time.Duration{0, 0, 0}, 3},
		{"a minute apart", []time.Duration{0, time.Minute, 2 * time.Minute}, 1},
		{"almost a minute apart", []time.Duration{0, time.Minute - 1, 2*time.Minute - 2}, 2},
		{"across the edge of fixed windows", []time.Duration{0, 55 * time.Second, 58 * time.Second, 61 * time.Second, 62 * time.Second}, 4},
		{"the most was before", []time.Duration{0, 1, 2, time.Hour}, 3},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			l := newExchangeLog(time.Minute)
			start := time.Now()
			for _, at := range tc.calls {
				l.counted(l.arrived("", "", start.Add(at)), start.Add(at))
			}
			require.Equal(t, tc.want, l.report().MaxInWindow)
		})
	}
}

func TestLogIsBounded(t *testing.T) {
	l := newExchangeLog(time.Minute)
	now := time.Now()
	for i := range keptExchanges + 5 {
		l.answered(l.arrived("", strings.Repeat("x", i%2), now), 200)
	}
	report := l.report()
	require.Len(t, report.Exchanges, keptExchanges)
	require.Equal(t, keptExchanges+5, report.Total)
	require.Equal(t, "x", report.Exchanges[0].Service, "the oldest are gone")
}

// TestAnswerAfterReset: a call from before a reset does not count after it.
func TestAnswerAfterReset(t *testing.T) {
	l := newExchangeLog(time.Minute)
	old := l.arrived("", "", time.Now())
	l.reset()
	l.answered(old, 200)
	require.Empty(t, l.report().ByStatus)
}

// TestTwoVaultsShareNothing holds the package to having no state of its own.
func TestTwoVaultsShareNothing(t *testing.T) {
	one, two := newVault(t, Options{}), newVault(t, Options{})
	_, err := one.AddFault(Fault{Kind: FaultStatus})
	require.NoError(t, err)
	token := mint(t, one, MintParams{})
	require.Equal(t, 503, askFor(one, token, "github").status)
	require.Equal(t, 401, askFor(two, token, "github").status)
	require.ErrorIs(t, two.Revoke(one.Grants()[0].ID), ErrUnknownGrant)
}

// TestManyAtOnce is for the race detector, and counts.
func TestManyAtOnce(t *testing.T) {
	const workers, calls = 8, 25
	s := newVault(t, Options{RateLimit: 20, NoDeveloperLimits: true})
	require.NoError(t, s.Seed())
	token := mint(t, s, MintParams{})
	var group sync.WaitGroup
	for range workers {
		group.Go(func() {
			for range calls {
				askFor(s, token, "github")
				ask(s.Handler(), "POST", pathCredentials, testAPIKey, credentialBody("slack", "made-up", ""))
				ask(s.Handler(), "GET", pathCredentials, testAPIKey, "")
				id, err := s.AddFault(Fault{Kind: FaultStatus, On: OnHealth})
				if err == nil {
					ask(s.Handler(), "GET", pathHealth, "", "")
					s.RemoveFault(id)
				}
				if _, claims, err := s.Mint(MintParams{}); err == nil {
					_ = s.Revoke(claims.GrantID)
				}
				s.Exchanges()
			}
		})
	}
	group.Wait()
	report := s.Exchanges()
	require.Equal(t, workers*calls, report.Total)
	require.Equal(t, map[int]int{200: 20, 429: workers*calls - 20}, report.ByStatus)
	require.Len(t, s.Grants(), 1+workers*calls)
	require.Len(t, s.records.credentials, 3)
	require.Empty(t, s.Faults())
}

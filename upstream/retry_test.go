package upstream_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/grantexd/grantexd/upstream"
)

const goodBody = `{"accessToken":"canary_access_token","service":"github","credentialType":"oauth2"}`

// step is what one attempt ends with.
type step struct {
	status int
	body   string
	err    error
}

// script is a transport whose attempts end as they are told to.
type script struct {
	steps []step
	at    []time.Time
}

func (s *script) roundTrip(r *http.Request) (*http.Response, error) {
	s.at = append(s.at, time.Now())
	now := s.steps[min(len(s.at), len(s.steps))-1]
	if now.err != nil && now.status == 0 {
		return nil, now.err
	}
	var body io.Reader = strings.NewReader(now.body)
	if now.err != nil {
		body = io.MultiReader(body, iotest.ErrReader(now.err))
	}
	return respond(r, now.status, body, "Retry-After", "3600"), nil
}

func TestRetryPolicy(t *testing.T) {
	reset := &net.OpError{Op: "read", Net: "tcp", Err: syscall.ECONNRESET}
	ok := step{status: 200, body: goodBody}
	vaultError := func(status int) step {
		return step{status: status, body: `{"message":"m` + strconv.Itoa(status) + `","code":"C","requestId":"r"}`}
	}
	for _, tt := range []struct {
		name     string
		steps    []step
		attempts int
		status   int   // of the error, 0 if it is none of the vault's
		want     error // nil for success if status is 0 too
	}{
		{"success", []step{ok}, 1, 0, nil},
		{"502 once", []step{vaultError(502), ok}, 2, 0, nil},
		{"503 once", []step{vaultError(503), ok}, 2, 0, nil},
		{"504 once", []step{vaultError(504), ok}, 2, 0, nil},
		{"502 twice", []step{vaultError(502), vaultError(502), ok}, 2, 502, nil},
		{"503 twice", []step{vaultError(503), vaultError(503), ok}, 2, 503, nil},
		{"504 twice", []step{vaultError(504), vaultError(504), ok}, 2, 504, nil},
		{"503 then 404", []step{vaultError(503), vaultError(404), ok}, 2, 404, nil},
		{"503 then 429", []step{vaultError(503), vaultError(429), ok}, 2, 429, nil},
		{"501", []step{vaultError(501), ok}, 1, 501, nil},
		{"505", []step{vaultError(505), ok}, 1, 505, nil},
		{"500", []step{vaultError(500), ok}, 1, 500, nil},
		{"429", []step{vaultError(429), ok}, 1, 429, nil},
		{"408", []step{vaultError(408), ok}, 1, 408, nil},
		{"401", []step{vaultError(401), ok}, 1, 401, nil},
		{"reset once", []step{{err: reset}, ok}, 2, 0, nil},
		{"reset twice", []step{{err: reset}, {err: reset}, ok}, 2, 0, upstream.ErrConnect},
		{"closed at once", []step{{err: io.EOF}, ok}, 2, 0, nil},
		{"body broken once", []step{{status: 200, body: `{"acc`, err: reset}, ok}, 2, 0, nil},
		{"body broken twice", []step{{status: 200, body: `{"acc`, err: io.ErrUnexpectedEOF}}, 2, 0, upstream.ErrConnect},
		{"body of an error broken", []step{{status: 404, body: `{"mes`, err: reset}, vaultError(404)}, 2, 404, nil},
		{"reset then 503", []step{{err: reset}, vaultError(503), ok}, 2, 503, nil},
		{"503 then reset", []step{vaultError(503), {err: reset}, ok}, 2, 0, upstream.ErrConnect},
		{"no such host", []step{{err: &net.DNSError{Err: "no such host", Name: "vault.test"}}, ok}, 2, 0, nil},
		{"bad certificate", []step{{err: &tls.CertificateVerificationError{Err: errors.New("x509: no")}}, ok}, 1, 0, upstream.ErrConnect},
		{"no TLS there", []step{{err: tls.RecordHeaderError{Msg: "first record"}}, ok}, 1, 0, upstream.ErrConnect},
		{"truncated JSON", []step{{status: 200, body: `{"acc`}, ok}, 1, 200, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &script{steps: tt.steps}
				cred, err := newFakeClient(t, s.roundTrip).Exchange(t.Context(), grant, "github")
				require.Len(t, s.at, tt.attempts, "attempts; %v", err)
				if tt.attempts == 2 {
					wait := s.at[1].Sub(s.at[0])
					require.GreaterOrEqual(t, wait, 200*time.Millisecond)
					require.LessOrEqual(t, wait, 500*time.Millisecond, "Retry-After is not obeyed here")
				}
				checkEnd(t, cred, err, tt.status, tt.want)
			})
		})
	}
}

// checkEnd checks what a call ended with: 200 stands for a malformed answer,
// another status for the vault's error, none of it for success.
func checkEnd(t *testing.T, cred *upstream.Credential, err error, status int, want error) {
	t.Helper()
	var answered *upstream.Error
	var malformed *upstream.MalformedError
	switch {
	case status == 200:
		require.ErrorAs(t, err, &malformed)
	case status != 0:
		require.ErrorAs(t, err, &answered)
		require.Equal(t, status, answered.Status)
		require.Equal(t, "m"+strconv.Itoa(status), answered.Message, "the final answer's own body")
		require.Equal(t, time.Hour, answered.RetryAfter)
	case want != nil:
		require.ErrorIs(t, err, want)
	default:
		require.NoError(t, err)
		require.Equal(t, "canary_access_token", cred.AccessToken.Reveal())
	}
}

// Both ends of the wait are reached, and more than a few values between.
func TestRetryWaitIsSpread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		waits := map[time.Duration]bool{}
		var least, most time.Duration = time.Hour, 0
		for range 400 {
			s := &script{steps: []step{{status: 503}, {status: 200, body: goodBody}}}
			_, err := newFakeClient(t, s.roundTrip).Exchange(t.Context(), grant, "github")
			require.NoError(t, err)
			wait := s.at[1].Sub(s.at[0])
			waits[wait] = true
			least, most = min(least, wait), max(most, wait)
		}
		require.Greater(t, len(waits), 300)
		require.Less(t, least, 220*time.Millisecond)
		require.Greater(t, most, 480*time.Millisecond)
	})
}

// noSlotAfter is a budget that admits so many attempts.
func noSlotAfter(admitted int) func(*upstream.Options) {
	return func(o *upstream.Options) {
		o.Wrap = func(next http.RoundTripper) http.RoundTripper {
			return roundTripFunc(func(r *http.Request) (*http.Response, error) {
				if admitted--; admitted < 0 {
					return nil, &upstream.NoSlotError{Wait: 42 * time.Second}
				}
				return next.RoundTrip(r)
			})
		}
	}
}

func TestNoSlot(t *testing.T) {
	unavailable := step{status: 503, body: `{"message":"first","code":"DOWN","requestId":"r1"}`}
	for _, tt := range []struct {
		name     string
		admitted int
		first    step
		check    func(*testing.T, error)
	}{
		{"none at all", 0, unavailable, func(t *testing.T, err error) {
			var noSlot *upstream.NoSlotError
			require.ErrorAs(t, err, &noSlot)
			require.Equal(t, 42*time.Second, noSlot.Wait)
		}},
		{"none for the retry of a 503", 1, unavailable, func(t *testing.T, err error) {
			var answered *upstream.Error
			require.ErrorAs(t, err, &answered)
			require.Equal(t, "first", answered.Message)
			require.Equal(t, "r1", answered.RequestID)
		}},
		{"none for the retry of a reset", 1, step{err: syscall.ECONNRESET}, func(t *testing.T, err error) {
			require.ErrorIs(t, err, upstream.ErrConnect)
			require.ErrorIs(t, err, syscall.ECONNRESET)
		}},
		{"one for the retry", 2, unavailable, func(t *testing.T, err error) { require.NoError(t, err) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &script{steps: []step{tt.first, {status: 200, body: goodBody}}}
				_, err := newFakeClient(t, s.roundTrip, noSlotAfter(tt.admitted)).Exchange(t.Context(), grant, "github")
				require.Len(t, s.at, tt.admitted)
				tt.check(t, err)
				var noSlot *upstream.NoSlotError
				require.Equal(t, tt.admitted == 0, errors.As(err, &noSlot))
			})
		})
	}
}

func TestWrapperOwnError(t *testing.T) {
	mine := errors.New("the ledger is on fire")
	c := newFakeClient(t, nil, func(o *upstream.Options) {
		o.Wrap = func(http.RoundTripper) http.RoundTripper {
			return roundTripFunc(func(*http.Request) (*http.Response, error) { return nil, mine })
		}
	})
	_, err := c.Exchange(t.Context(), grant, "github")
	require.ErrorIs(t, err, mine)
	require.NotErrorIs(t, err, upstream.ErrConnect, "nothing was found out about the vault")
	require.Equal(t, "calling the vault: the ledger is on fire", err.Error())
}

// The departure in the context reaches the layer that schedules attempts.
func TestDepartureReachesTheWrapper(t *testing.T) {
	d := upstream.NewDeparture(upstream.ClassCheck, "uid:7", upstream.DepartureHooks{})
	s := &script{steps: []step{{status: 503}, {status: 200, body: goodBody}}}
	var seen []*upstream.Departure
	c := newClient(t, "https://vault.test", func(o *upstream.Options) {
		o.Transport = roundTripFunc(s.roundTrip)
		o.Wrap = func(next http.RoundTripper) http.RoundTripper {
			return roundTripFunc(func(r *http.Request) (*http.Response, error) {
				seen = append(seen, upstream.DepartureFrom(r.Context()))
				require.True(t, strings.HasSuffix(r.URL.Path, upstream.PathExchange))
				return next.RoundTrip(r)
			})
		}
	})
	_, err := c.Exchange(upstream.WithDeparture(t.Context(), d), grant, "github")
	require.NoError(t, err)
	require.Equal(t, []*upstream.Departure{d, d}, seen)
}

func TestCancelled(t *testing.T) {
	for _, tt := range []struct {
		name string
		when time.Duration // the first attempt ends with a 503 after one second
		made int
	}{
		{"while the attempt is under way", 500 * time.Millisecond, 1},
		{"while waiting for the retry", 1100 * time.Millisecond, 1},
		{"during the retry", 1900 * time.Millisecond, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				time.AfterFunc(tt.when, cancel)
				made := 0
				c := newFakeClient(t, func(r *http.Request) (*http.Response, error) {
					made++
					select {
					case <-time.After(time.Second):
						return respond(r, 503, strings.NewReader("")), nil
					case <-r.Context().Done():
						return nil, r.Context().Err()
					}
				})
				started := time.Now()
				_, err := c.Exchange(ctx, grant, "github")
				require.ErrorIs(t, err, context.Canceled)
				require.NotErrorIs(t, err, upstream.ErrTimeout)
				require.NotErrorIs(t, err, upstream.ErrConnect)
				require.Equal(t, tt.when, time.Since(started), "a cancelled call ends at once")
				require.Equal(t, tt.made, made)
			})
		})
	}
}

// An answer that came just as the caller left is still what came.
func TestAnswerAsTheCallerLeaves(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	calls := 0
	c := newFakeClient(t, func(r *http.Request) (*http.Response, error) {
		calls++
		cancel()
		return respond(r, 503, strings.NewReader(`{"message":"m503","code":"C"}`), "Retry-After", "3600"), nil
	})
	cred, err := c.Exchange(ctx, grant, "github")
	checkEnd(t, cred, err, 503, nil)
	require.Equal(t, 1, calls)
}

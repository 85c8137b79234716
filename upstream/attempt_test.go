package upstream_test

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/grantexd/grantexd/upstream"
)

// after is a body that comes after a while, unless its request ends first.
type after struct {
	ctx  context.Context
	wait time.Duration
	io.Reader
}

func (a *after) Read(p []byte) (int, error) {
	select {
	case <-time.After(a.wait):
		a.wait = 0
		return a.Reader.Read(p)
	case <-a.ctx.Done():
		return 0, a.ctx.Err()
	}
}

// slow is a vault that takes its time for the header and for the body.
func slow(header, body time.Duration, made *int) roundTripFunc {
	return func(r *http.Request) (*http.Response, error) {
		*made++
		select {
		case <-time.After(header):
			return respond(r, 200, &after{ctx: r.Context(), wait: body, Reader: strings.NewReader(goodBody)}), nil
		case <-r.Context().Done():
			return nil, r.Context().Err()
		}
	}
}

// wait is a budget with which every attempt waits for its slot.
func wait(d time.Duration) func(*upstream.Options) {
	return func(o *upstream.Options) {
		o.Wrap = func(next http.RoundTripper) http.RoundTripper {
			return roundTripFunc(func(r *http.Request) (*http.Response, error) {
				select {
				case <-time.After(d):
					return next.RoundTrip(r)
				case <-r.Context().Done():
					return nil, r.Context().Err()
				}
			})
		}
	}
}

func TestAttemptTimeout(t *testing.T) {
	const ms = time.Millisecond
	for _, tt := range []struct {
		name                         string
		slot, header, body, deadline time.Duration
		option                       time.Duration
		want                         error
		ends                         time.Duration
	}{
		{name: "header just in time", header: 9999 * ms, ends: 9999 * ms},
		{name: "header too late", header: 10001 * ms, want: upstream.ErrTimeout, ends: 10 * time.Second},
		{name: "body just in time", header: 9 * time.Second, body: 999 * ms, ends: 9999 * ms},
		{name: "body too late", header: 9 * time.Second, body: 1001 * ms, want: upstream.ErrTimeout, ends: 10 * time.Second},
		{name: "the vault hangs", header: time.Hour, want: upstream.ErrTimeout, ends: 10 * time.Second},
		{name: "waiting for a slot does not count", slot: time.Minute, header: 9999 * ms, ends: time.Minute + 9999*ms},
		{name: "nor does it help", slot: time.Minute, header: 10001 * ms, want: upstream.ErrTimeout, ends: 70 * time.Second},
		{name: "own timeout, in time", option: 3 * time.Second, header: 2999 * ms, ends: 2999 * ms},
		{name: "own timeout, too late", option: 3 * time.Second, header: 3001 * ms, want: upstream.ErrTimeout, ends: 3 * time.Second},
		{name: "deadline of the call in the attempt", header: time.Hour, deadline: 4 * time.Second, want: context.DeadlineExceeded, ends: 4 * time.Second},
		{name: "deadline of the call in the body", header: time.Second, body: time.Hour, deadline: 4 * time.Second, want: context.DeadlineExceeded, ends: 4 * time.Second},
		{name: "deadline of the call while waiting for a slot", slot: time.Hour, deadline: 4 * time.Second, want: context.DeadlineExceeded, ends: 4 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx := t.Context()
				if tt.deadline != 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, tt.deadline)
					defer cancel()
				}
				made := 0
				c := newFakeClient(t, slow(tt.header, tt.body, &made), wait(tt.slot),
					func(o *upstream.Options) { o.AttemptTimeout = tt.option })
				started := time.Now()
				cred, err := c.Exchange(ctx, grant, "github")
				require.Equal(t, tt.ends, time.Since(started))
				require.LessOrEqual(t, made, 1, "a timeout is not worth a retry")
				if tt.want == nil {
					require.NoError(t, err)
					require.Equal(t, "github", cred.Service)
					return
				}
				require.ErrorIs(t, err, tt.want)
				require.ErrorIs(t, err, upstream.ErrTimeout, "whoever's deadline it was")
				require.NotErrorIs(t, err, upstream.ErrConnect)
			})
		})
	}
}

// Each attempt has its full time, the second one too.
func TestAttemptTimeoutStartsAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		made := 0
		c := newFakeClient(t, func(r *http.Request) (*http.Response, error) {
			made++
			time.Sleep(9 * time.Second)
			if made == 1 {
				return respond(r, 503, strings.NewReader("")), nil
			}
			return respond(r, 200, strings.NewReader(goodBody)), nil
		})
		_, err := c.Exchange(t.Context(), grant, "github")
		require.NoError(t, err)
		require.Equal(t, 2, made)
	})
}

// An attempt that is over leaves no timer behind.
func TestAttemptEndsWithItsAnswer(t *testing.T) {
	for name, fail := range map[string]error{"answered": nil, "failed": io.EOF} {
		t.Run(name, func(t *testing.T) {
			var ctx context.Context
			c := newClient(t, "https://vault.test", func(o *upstream.Options) {
				o.Transport = roundTripFunc(func(r *http.Request) (*http.Response, error) {
					ctx = r.Context()
					return respond(r, 200, strings.NewReader(goodBody)), fail
				})
			})
			_, err := c.Exchange(t.Context(), grant, "github")
			require.Equal(t, fail != nil, err != nil)
			require.ErrorIs(t, ctx.Err(), context.Canceled)
		})
	}
}

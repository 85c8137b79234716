package upstream_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/grantexd/grantexd/upstream"
	"github.com/grantexd/grantexd/upstream/clock"
)

func TestHealthRequest(t *testing.T) {
	for fixture, status := range map[string]int{"health-200": 200, "health-503": 503} {
		v := replay(t, fixture)
		got, err := newClient(t, v.URL).Health(t.Context())
		require.NoError(t, err)
		require.Equal(t, status, got.Status)
		require.Equal(t, status == 200, got.Healthy)
		require.Equal(t, time.Date(2026, 12, 7, 9, 30, 15, 0, time.UTC), got.Date)
		r := v.only(t) // a 503 is an answer, not worth a retry
		require.Equal(t, "GET", r.method)
		require.Equal(t, upstream.PathHealth, r.path)
		require.NotContains(t, r.header, "Authorization")
		require.NotContains(t, r.header, "Content-Type")
	}
}

func TestHealthOfSomethingElse(t *testing.T) {
	var got *upstream.Error
	_, err := newClient(t, replay(t, "exchange-401-wrong-path").URL).Health(t.Context())
	require.ErrorAs(t, err, &got)
	require.Equal(t, 401, got.Status)
}

func TestHealthIsNotRepeated(t *testing.T) {
	calls := 0
	c := newFakeClient(t, func(*http.Request) (*http.Response, error) {
		calls++
		return nil, context.DeadlineExceeded // not the call's own
	})
	_, err := c.Health(t.Context())
	require.ErrorIs(t, err, upstream.ErrConnect)
	require.Equal(t, 1, calls)
}

func TestHealthNeedsNoKey(t *testing.T) {
	c, err := upstream.New(upstream.Options{BaseURL: replay(t, "health-200").URL})
	require.NoError(t, err)
	t.Cleanup(c.CloseIdleConnections)
	_, err = c.Health(t.Context())
	require.NoError(t, err)
}

func TestClockOffset(t *testing.T) {
	for _, tt := range []struct {
		name    string
		ahead   time.Duration // of the vault's clock
		latency time.Duration // there and back, each half
		date    bool
	}{
		{"same", 0, 0, true},
		{"same, far away", 0, 3 * time.Second, true},
		{"vault ahead", 7 * time.Minute, time.Second, true},
		{"vault behind", -7 * time.Minute, time.Second, true},
		{"no date", time.Hour, 0, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var header []string
				c := newFakeClient(t, func(r *http.Request) (*http.Response, error) {
					time.Sleep(tt.latency / 2)
					if tt.date {
						header = []string{"Date", time.Now().Add(tt.ahead).UTC().Format(http.TimeFormat)}
					}
					time.Sleep(tt.latency / 2)
					return respond(r, 200, strings.NewReader(""), header...), nil
				}, func(o *upstream.Options) { o.Clock = clock.NewFake() })
				time.Sleep(123 * time.Millisecond)
				got, err := c.Health(t.Context())
				require.NoError(t, err)
				require.Equal(t, tt.latency, got.RoundTrip)
				require.Equal(t, tt.date, !got.Date.IsZero())
				if !tt.date {
					require.Zero(t, got.ClockOffset)
					return
				}
				require.InDelta(t, tt.ahead.Seconds(), got.ClockOffset.Seconds(), 0.51)
			})
		})
	}
}

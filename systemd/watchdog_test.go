package systemd

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// checkAt is how one check goes: it answers after takes, with err.
type checkAt struct {
	takes time.Duration
	err   error
}

func TestWatchdogTimeline(t *testing.T) {
	const s = time.Second
	broken := errors.New("broken")
	tests := []struct {
		name   string
		checks []checkAt // the last one repeats
		until  time.Duration
		pings  []time.Duration // since the start
	}{
		{"every check succeeds at once", []checkAt{{}}, 59 * s, []time.Duration{0, 10 * s, 20 * s, 30 * s, 40 * s, 50 * s}},
		{"checks take time, the rhythm stays", []checkAt{{takes: 3 * s}}, 29 * s, []time.Duration{3 * s, 13 * s, 23 * s}},
		{"just in time", []checkAt{{takes: 5*s - 1}}, 10 * s, []time.Duration{5*s - 1}},
		{"just too late", []checkAt{{takes: 5*s + 1}}, 60 * s, nil},
		{"every check fails", []checkAt{{err: broken}}, 60 * s, nil},
		{"one hiccup is made good within the interval",
			[]checkAt{{}, {takes: 5 * s, err: broken}, {}}, 30 * s, []time.Duration{0, 17 * s, 27 * s}},
		{"fails from then on", []checkAt{{}, {}, {err: broken}}, 60 * s, []time.Duration{0, 10 * s}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				started := time.Now()
				ctx, cancel := context.WithTimeout(t.Context(), tt.until)
				defer cancel()
				var pings []time.Duration
				n := 0
				check := func(context.Context) error {
					c := tt.checks[min(n, len(tt.checks)-1)]
					n++
					time.Sleep(c.takes)
					return c.err
				}
				ping := func() error { pings = append(pings, time.Since(started)); return nil }
				Watchdog{Check: check}.watch(ctx, 20*s, ping)
				require.Equal(t, tt.pings, pings)
			})
		})
	}
}

func TestWatchdogCheckMayHangUntilItsContextEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		var log bytes.Buffer
		hangs := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
		ping := func() error { require.Fail(t, "a hanging check was reported as good"); return nil }
		Watchdog{Check: hangs, Log: slog.New(slog.NewTextHandler(&log, nil))}.watch(ctx, 20*time.Second, ping)
		// 5 s of patience and 2 s until the next try, in one minute.
		require.Equal(t, 8, bytes.Count(log.Bytes(), []byte("watchdog check failed")), log.String())
	})
}

func TestWatchdogEndsInsideACheckWithoutAWord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var log bytes.Buffer
		check := func(ctx context.Context) error { cancel(); return ctx.Err() }
		ping := func() error { return nil }
		Watchdog{Check: check, Log: slog.New(slog.NewTextHandler(&log, nil))}.watch(ctx, time.Second, ping)
		require.Empty(t, log.String(), "being stopped is no failed check")
	})
}

func TestWatchdogRetriesAPingThatFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		started := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		var tries []time.Duration
		ping := func() error {
			tries = append(tries, time.Since(started))
			if len(tries) == 1 {
				return errors.New("queue full")
			}
			return nil
		}
		Watchdog{Check: func(context.Context) error { return nil }}.watch(ctx, 20*time.Second, ping)
		require.Equal(t, []time.Duration{0, 2 * time.Second}, tries)
	})
}

func TestWatchdogPingsTheManager(t *testing.T) {
	m := startManager(t, "")
	t.Setenv("WATCHDOG_USEC", strconv.FormatInt((20*time.Millisecond).Microseconds(), 10))
	t.Setenv("WATCHDOG_PID", "")
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- Watchdog{Check: func(context.Context) error { return nil }}.Run(ctx) }()
	for range 3 {
		require.Equal(t, "WATCHDOG=1", m.next(t))
	}
	cancel()
	require.NoError(t, <-done)
}

func TestWatchdogVariables(t *testing.T) {
	tests := []struct {
		name, usec, pid string
		ok              bool
	}{
		{"none", "", "", true},
		{"meant for another process", "1000000", "1", true},
		{"not a number", "soon", "", false},
		{"zero", "0", "", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv("WATCHDOG_USEC", tt.usec)
			t.Setenv("WATCHDOG_PID", tt.pid)
			check := func(context.Context) error { require.Fail(t, "checked without a watchdog"); return nil }
			err := Watchdog{Check: check}.Run(t.Context())
			require.Equal(t, tt.ok, err == nil, "%v", err)
		})
	}
}

package systemd

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func TestNotifierSends(t *testing.T) {
	var n Notifier
	tests := []struct {
		name string
		send func() error
		want string
	}{
		{"ready with a status", func() error { return n.Ready("2 h left") }, "READY=1\nSTATUS=2 h left"},
		{"ready without", func() error { return n.Ready("") }, "READY=1\nSTATUS="},
		{"status", func() error { return n.Status("vault answers") }, "STATUS=vault answers"},
		{"status that would say more", func() error { return n.Status("a\nREADY=1\r\x00\u0085b") }, "STATUS=a READY=1   b"},
		{"status in bad UTF-8", func() error { return n.Status("a\xffb") }, "STATUS=a?b"},
		{"stopping", n.Stopping, "STOPPING=1"},
	}
	for _, socket := range []string{"", fmt.Sprintf("@notifier-test-%d", os.Getpid())} {
		m := startManager(t, socket)
		for _, tt := range tests {
			t.Run(tt.name+socket, func(t *testing.T) {
				require.NoError(t, tt.send())
				require.Equal(t, tt.want, m.next(t))
			})
		}
	}
}

func TestReloadingCarriesTheTime(t *testing.T) {
	m := startManager(t, "")
	before := monotonicMicroseconds(t)
	require.NoError(t, Notifier{}.Reloading())
	after := monotonicMicroseconds(t)

	first, second, _ := strings.Cut(m.next(t), "\n")
	require.Equal(t, "RELOADING=1", first)
	value, found := strings.CutPrefix(strings.TrimSpace(second), "MONOTONIC_USEC=")
	require.True(t, found, second)
	sent, err := strconv.ParseInt(value, 10, 64)
	require.NoError(t, err)
	require.GreaterOrEqual(t, sent, before)
	require.LessOrEqual(t, sent, after)
}

func monotonicMicroseconds(t *testing.T) int64 {
	t.Helper()
	var ts unix.Timespec
	require.NoError(t, unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts))
	return ts.Nano() / 1000
}

func TestStatusIsBounded(t *testing.T) {
	tests := []struct {
		name   string
		status string
		want   int
	}{
		{"at the bound", strings.Repeat("x", maxStatus), maxStatus},
		{"one above", strings.Repeat("x", maxStatus+1), maxStatus},
		{"cut inside a character", strings.Repeat("x", maxStatus-1) + "é", maxStatus - 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			line := statusLine(tt.status)
			require.Len(t, line, len("STATUS=")+tt.want)
			require.True(t, utf8.ValidString(line))
		})
	}
}

func FuzzStatusLine(f *testing.F) {
	f.Add("grant: 2 h left")
	f.Add("a\nREADY=1\x00\x7f\u0085")
	f.Add(strings.Repeat("\xff€", maxStatus))
	f.Fuzz(func(t *testing.T, status string) {
		line := statusLine(status)
		require.True(t, strings.HasPrefix(line, "STATUS="))
		require.True(t, utf8.ValidString(line))
		require.LessOrEqual(t, len(line), len("STATUS=")+maxStatus)
		require.NotContains(t, line, "\n")
		require.NotContains(t, line, "\x00")
	})
}

func TestQuietOutsideSystemd(t *testing.T) {
	for _, name := range []string{"NOTIFY_SOCKET", "LISTEN_PID", "LISTEN_FDS", "WATCHDOG_USEC"} {
		t.Setenv(name, "")
	}
	ctx := context.Background()
	var n Notifier
	require.NoError(t, n.Ready("x"))
	require.NoError(t, n.Status("x"))
	require.NoError(t, n.Reloading())
	require.NoError(t, n.Stopping())

	in, err := Inherit()
	require.NoError(t, err)
	require.Empty(t, in.Listeners)
	require.Empty(t, in.Stored)

	h, err := NewHandover("cache", in)
	require.NoError(t, err)
	require.False(t, h.Available())
	content, err := h.Take()
	require.NoError(t, err)
	require.Nil(t, content)
	require.NoError(t, h.Store([]byte("x")))
	require.NoError(t, h.Store(make([]byte, MaxSealed+1)), "nothing is made where nothing is kept")
	require.NoError(t, h.Remove(ctx))

	called := false
	check := func(context.Context) error { called = true; return nil }
	require.NoError(t, Watchdog{Check: check}.Run(ctx))
	require.False(t, called)
}

func TestManagerGoneIsAnError(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", filepath.Join(t.TempDir(), "nobody"))
	require.ErrorContains(t, Notifier{}.Ready(""), "notify the service manager")

	h, err := NewHandover("cache", nil)
	require.NoError(t, err)
	require.ErrorContains(t, h.Store([]byte("x")), "notify the service manager")
	require.ErrorContains(t, h.Remove(context.Background()), "notify the service manager")
}

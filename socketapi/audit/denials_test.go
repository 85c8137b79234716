package audit

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/grantexd/grantexd/socketapi/peer"
)

func TestDenialsAreSummedByCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := new(sink)
		l := newLog(t, s)
		stop := run(l)
		time.Sleep(30 * time.Second)

		// At once, and only once, whatever the number of connections.
		l.Connection(caller(1001)).Denied("slack")
		lines := s.take(t)
		require.Len(t, lines, 1)
		require.Equal(t, "credential denied", lines[0]["msg"])
		require.Equal(t, "uid:1001", lines[0]["principal"])
		require.EqualValues(t, 1001, lines[0]["uid"])
		require.Equal(t, "slack", lines[0]["service"])
		require.Contains(t, lines[0]["unknown"], "executable")
		for range 10 {
			l.Connection(caller(1001)).Denied("slack")
			l.Connection(caller(1001)).Denied("github")
		}
		l.Connection(caller(1002)).Denied("github")
		lines = s.take(t)
		require.Len(t, lines, 1, "another caller is another matter")
		require.Equal(t, "uid:1002", lines[0]["principal"])

		// The minute is over: a count for whoever went on.
		time.Sleep(30*time.Second + 1)
		lines = s.take(t)
		require.Len(t, lines, 1)
		require.Equal(t, "credential denied again", lines[0]["msg"])
		require.Equal(t, "uid:1001", lines[0]["principal"])
		require.EqualValues(t, 20, lines[0]["count"])
		require.Equal(t, []any{"github", "slack"}, lines[0]["services"])

		// It goes on for one and starts anew for the other.
		l.Connection(caller(1001)).Denied("npm")
		require.Empty(t, s.take(t))
		l.Connection(caller(1002)).Denied("npm")
		require.Len(t, s.take(t), 1)
		time.Sleep(time.Minute)
		lines = s.take(t)
		require.Len(t, lines, 1)
		require.EqualValues(t, 1, lines[0]["count"])
		require.Equal(t, []any{"npm"}, lines[0]["services"], "what was counted is not counted again")

		// A quiet minute later nothing is left of it.
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Empty(t, s.take(t))
		l.denials.mu.Lock()
		require.Empty(t, l.denials.byCaller)
		l.denials.mu.Unlock()
		l.Connection(caller(1001)).Denied("npm")
		l.Connection(caller(1001)).Denied("npm")
		require.Len(t, s.take(t), 1)
		require.NoError(t, stop())
		require.Len(t, s.take(t), 1, "the end writes what is left")
	})
}

func TestDenialsCannotFillTheDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := new(sink)
		l := newLog(t, s)
		stop := run(l)
		lines, size := 0, 0
		measure := func() {
			size += s.size()
			lines += len(s.take(t))
		}
		const minutes = 5
		for range minutes {
			// As many users as a user namespace has, each asking for names
			// made up as long as they get.
			for uid := range uint32(3 * maxDenied) {
				conn := l.Connection(caller(100_000 + uid))
				for i := range 2 * maxServices {
					conn.Denied(fmt.Sprintf("%d%s", i, strings.Repeat("\x01", 1000)))
				}
				conn.Close()
			}
			l.denials.mu.Lock()
			require.Len(t, l.denials.byCaller, maxDenied)
			for _, of := range l.denials.byCaller {
				require.LessOrEqual(t, len(of.services), maxServices)
			}
			l.denials.mu.Unlock()
			time.Sleep(time.Minute)
			synctest.Wait()
			measure()
		}
		require.NoError(t, stop())
		measure()
		// First lines once, then a count for each and one for all others.
		require.Equal(t, maxDenied+minutes*(maxDenied+1), lines)
		require.Less(t, size/minutes, 512<<10, "bytes a minute")
	})
}

func TestDenialsOfAllOthersAreCounted(t *testing.T) {
	s := new(sink)
	l := newLog(t, s)
	for uid := range uint32(maxDenied + 5) {
		l.Connection(caller(1000 + uid)).Denied("slack")
	}
	require.Len(t, s.take(t), maxDenied)
	l.flush()
	lines := s.take(t)
	require.Len(t, lines, 1)
	require.Equal(t, "credentials denied to further callers", lines[0]["msg"])
	require.EqualValues(t, 5, lines[0]["count"])
	l.flush()
	require.Empty(t, s.take(t))
}

func TestDenialCountsNameAFewServices(t *testing.T) {
	for _, c := range []struct {
		name     string
		services int
		want     int
	}{{"as many as are named", maxServices, maxServices}, {"one more", maxServices + 1, maxServices + 1}} {
		t.Run(c.name, func(t *testing.T) {
			s := new(sink)
			l := newLog(t, s)
			conn := l.Connection(caller(1000))
			conn.Denied("first")
			for i := range c.services {
				conn.Denied(fmt.Sprintf("s%d", i))
				conn.Denied(fmt.Sprintf("s%d", i))
			}
			l.flush()
			lines := s.take(t)
			named := lines[1]["services"].([]any)
			require.Len(t, named, c.want)
			require.Equal(t, c.services > maxServices, named[len(named)-1] == "…")
			require.EqualValues(t, 2*c.services, lines[1]["count"])
		})
	}
}

func TestNamesThatSomebodyMadeUp(t *testing.T) {
	for _, c := range []struct{ name, service, want string }{
		{"plain", "github", "github"},
		{"none", "", ""},
		{"a second line", "x\n{\"event\":\"credential released\"}", `x\n{\"event\":\"credential released\"}`},
		{"an escape sequence", "\x1b[2J", `\x1b[2J`},
		{"text turned round", "a\u202eb", `a\u202eb`},
		{"no text", "\xff\x00", `\xff\x00`},
		{"as long as the vault's", strings.Repeat("a", 64), strings.Repeat("a", 64)},
		{"longer", strings.Repeat("a", 65), strings.Repeat("a", 64) + "…"},
		{"cut within a letter", strings.Repeat("a", 63) + "é", strings.Repeat("a", 63) + `\xc3…`},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := new(sink)
			l := newLog(t, s)
			l.Connection(peer.TCP()).Denied(c.service)
			lines := s.take(t)
			require.Len(t, lines, 1)
			require.Equal(t, c.want, lines[0]["service"])
			require.Equal(t, "tcp", lines[0]["principal"])
		})
	}
}

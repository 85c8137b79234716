package audit

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/grantexd/grantexd/socketapi/peer"
	"github.com/grantexd/grantexd/upstream/clock"
)

func TestFirstLineSaysEverything(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, _, path := newFile(t, Options{Clock: clock.NewFake()})
		id := &peer.Identity{
			UID: peer.Known(uint32(1000)), GID: peer.Known(uint32(1001)), PID: peer.Known(int32(812)),
			Executable: peer.Known("/usr/bin/curl"), Unit: peer.Known("agent.service"), Container: peer.Known("c0ffee"),
		}
		require.NoError(t, l.Connection(id).Released(Release{Service: "github", Fingerprint: "f1", Exchange: "x41", Hit: true}))
		require.Equal(t, []map[string]any{{
			"time": "2000-01-01T00:00:00.000Z", "event": "credential released", "connection": 1.0,
			"principal": "unknown", "uid": 1000.0, "gid": 1001.0, "pid": 812.0, "executable": "/usr/bin/curl",
			"unit": "agent.service", "container": "c0ffee",
			"service": "github", "fingerprint": "f1", "exchange": "x41", "hit": true,
		}}, readFile(t, path))
	})
}

func TestLineSaysWhyAFactIsMissing(t *testing.T) {
	s := new(sink)
	require.NoError(t, newLog(t, s).Connection(peer.TCP()).Released(Release{Service: "github", Fingerprint: "f1", Exchange: "x1"}))
	line := s.take(t)[0]
	require.Equal(t, "tcp", line["principal"])
	require.Equal(t, false, line["hit"])
	require.NotContains(t, line, "uid")
	const reason = "a TCP connection has no peer credentials"
	require.Equal(t, map[string]any{"uid": reason, "gid": reason, "pid": reason, "executable": reason, "unit": reason}, line["unknown"])
}

// written is what a timeline expects of a line.
type written struct {
	event, service, fingerprint, exchange string
	hits, misses                          int
}

func writtenOf(line map[string]any) written {
	text := func(key string) string { s, _ := line[key].(string); return s }
	number := func(key string) int { n, _ := line[key].(float64); return int(n) }
	return written{text("msg"), text("service"), text("fingerprint"), text("exchange"), number("hits"), number("misses")}
}

const first, again = "credential released", "credential released again"

var (
	renewed = Release{Service: "github", Fingerprint: "f1", Exchange: "x2", Hit: false}
	rotated = Release{Service: "github", Fingerprint: "f2", Exchange: "x3", Hit: false}
	slack   = Release{Service: "slack", Fingerprint: "f1", Exchange: "x1", Hit: true}
)

var timelines = []struct {
	name  string
	steps []step
	want  []written // in all, the connection's end included
}{
	{"one", steps(at(0, github)), []written{{event: first, service: "github", fingerprint: "f1", exchange: "x1"}}},
	{"three in a minute", steps(at(0, github, github), at(59*time.Second, github), at(2*time.Second)), []written{
		{event: first, service: "github", fingerprint: "f1", exchange: "x1"},
		{event: again, service: "github", fingerprint: "f1", exchange: "x1", hits: 2},
	}},
	{"either side of the minute", steps(at(0, github), at(59*time.Second, github), at(2*time.Second, github, github)), []written{
		{event: first, service: "github", fingerprint: "f1", exchange: "x1"},
		{event: again, service: "github", fingerprint: "f1", exchange: "x1", hits: 1},
		{event: again, service: "github", fingerprint: "f1", exchange: "x1", hits: 2},
	}},
	{"quiet minutes say nothing", steps(at(0, github), at(5*time.Minute, github)), []written{
		{event: first, service: "github", fingerprint: "f1", exchange: "x1"},
		{event: again, service: "github", fingerprint: "f1", exchange: "x1", hits: 1},
	}},
	{"two services in turns", steps(at(0, github, slack, github, slack, slack), at(61*time.Second)), []written{
		{event: first, service: "github", fingerprint: "f1", exchange: "x1"},
		{event: first, service: "slack", fingerprint: "f1", exchange: "x1"},
		{event: again, service: "github", fingerprint: "f1", exchange: "x1", hits: 1},
		{event: again, service: "slack", fingerprint: "f1", exchange: "x1", hits: 2},
	}},
	{"another token", steps(at(0, github, rotated, rotated)), []written{
		{event: first, service: "github", fingerprint: "f1", exchange: "x1"},
		{event: first, service: "github", fingerprint: "f2", exchange: "x3"},
		{event: again, service: "github", fingerprint: "f2", exchange: "x3", misses: 1},
	}},
	{"another token of the same exchange", steps(at(0, github, Release{"github", "f9", "x1", true})), []written{
		{event: first, service: "github", fingerprint: "f1", exchange: "x1"},
		{event: first, service: "github", fingerprint: "f9", exchange: "x1"},
	}},
	{"the same token from another exchange", steps(at(0, github, github, renewed, github), at(61*time.Second)), []written{
		{event: first, service: "github", fingerprint: "f1", exchange: "x1"},
		{event: again, service: "github", fingerprint: "f1", exchange: "x1", hits: 1},
		{event: again, service: "github", fingerprint: "f1", exchange: "x2", misses: 1},
		{event: again, service: "github", fingerprint: "f1", exchange: "x1", hits: 1},
	}},
	{"hits and misses", steps(at(0, renewed, renewed), at(time.Second, Release{"github", "f1", "x2", true})), []written{
		{event: first, service: "github", fingerprint: "f1", exchange: "x2"},
		{event: again, service: "github", fingerprint: "f1", exchange: "x2", hits: 1, misses: 1},
	}},
}

func TestReleasesAreCountedEachMinute(t *testing.T) {
	for _, c := range timelines {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := new(sink)
				l := newLog(t, s)
				stop := run(l)
				conn := l.Connection(caller(1000))
				for _, step := range c.steps {
					time.Sleep(step.after)
					for _, r := range step.releases {
						require.NoError(t, conn.Released(r))
					}
				}
				conn.Close()
				require.NoError(t, stop())
				var got []written
				for _, line := range s.take(t) {
					require.Equal(t, "uid:1000", line["principal"])
					require.EqualValues(t, 1, line["connection"])
					got = append(got, writtenOf(line))
				}
				require.ElementsMatch(t, c.want, got) // of several counts, any may be first
			})
		})
	}
}

type step struct {
	after    time.Duration
	releases []Release
}

func steps(s ...step) []step { return s }

func at(after time.Duration, releases ...Release) step { return step{after, releases} }

func TestConnectionsAreTakenApart(t *testing.T) {
	s := new(sink)
	l := newLog(t, s)
	for range 2 {
		require.NoError(t, l.Connection(caller(1000)).Released(github))
	}
	lines := s.take(t)
	require.Len(t, lines, 2, "a connection more is a line more")
	require.NotEqual(t, lines[0]["connection"], lines[1]["connection"])
}

func TestRunWritesTheRestWhenItEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := new(sink)
		l := newLog(t, s)
		stop := run(l)
		conn := l.Connection(caller(1000))
		require.NoError(t, conn.Released(github))
		require.NoError(t, conn.Released(github))
		require.NoError(t, stop())
		lines := s.take(t)
		require.Len(t, lines, 2)
		require.EqualValues(t, 1, lines[1]["count"])

		// What is answered while the daemon drains is not lost either.
		require.NoError(t, conn.Released(github))
		conn.Close()
		conn.Close()
		lines = s.take(t)
		require.Len(t, lines, 1)
		require.EqualValues(t, 1, lines[0]["count"])
		require.NoError(t, conn.Released(github))
		require.NoError(t, conn.Released(github))
		require.Len(t, s.take(t), 2, "nobody counts for a closed connection, so each has its line")
	})
}

func TestOtherInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := new(sink)
		l, err := New(Options{Logger: s.logger(), Interval: time.Second})
		require.NoError(t, err)
		stop := run(l)
		conn := l.Connection(caller(1000))
		require.NoError(t, conn.Released(github))
		require.NoError(t, conn.Released(github))
		time.Sleep(time.Second - 1)
		require.Len(t, s.take(t), 1)
		time.Sleep(2 * time.Nanosecond)
		require.Len(t, s.take(t), 1)
		require.NoError(t, stop())
	})
}

func TestMemoryOfAConnectionIsBounded(t *testing.T) {
	s := new(sink)
	l := newLog(t, s)
	conn := l.Connection(caller(1000))
	total := 0
	for round := range 3 {
		for i := range maxCredentials + 1 {
			r := Release{Service: "s", Fingerprint: string(rune('A' + i)), Exchange: "x", Hit: true}
			require.NoError(t, conn.Released(r))
			require.NoError(t, conn.Released(r))
			total += 2
			require.LessOrEqual(t, len(conn.counts), maxCredentials, round)
		}
	}
	conn.Close()
	require.Equal(t, total, released(s.take(t)), "yet every release is counted")
	require.Empty(t, l.live, "nothing is kept of a closed connection")
}

// released adds up how many releases lines speak of.
func released(lines []map[string]any) int {
	n := 0
	for _, line := range lines {
		if line["msg"] == "credential released" {
			n++
		}
		count, _ := line["count"].(float64)
		n += int(count)
	}
	return n
}

func TestConcurrentReleasesAreAllCounted(t *testing.T) {
	s := new(sink)
	l, err := New(Options{Logger: s.logger(), Interval: 100 * time.Microsecond})
	require.NoError(t, err)
	stop := run(l)
	const connections, users, each = 4, 4, 500
	var wg sync.WaitGroup
	for range connections {
		conn := l.Connection(caller(1000))
		var using sync.WaitGroup
		for u := range users {
			using.Go(func() {
				r := github
				r.Service = []string{"github", "slack"}[u%2]
				for range each {
					_ = conn.Released(r) // it can only fail if the log is required
				}
			})
		}
		wg.Go(func() { using.Wait(); conn.Close() })
	}
	wg.Wait()
	require.NoError(t, stop())
	require.Equal(t, connections*users*each, released(s.take(t)))
	require.Empty(t, l.live)
}

func TestCountingAllocatesNothing(t *testing.T) {
	for name, required := range map[string]bool{"required": true, "not required": false} {
		t.Run(name, func(t *testing.T) {
			l, err := New(Options{Required: required})
			require.NoError(t, err)
			conn := l.Connection(caller(1000))
			require.Zero(t, testing.AllocsPerRun(100, func() {
				_ = conn.Released(github)
				_ = conn.Released(github)
				_ = conn.Released(slack)
			}))
		})
	}
}

func BenchmarkReleased(b *testing.B) {
	l, err := New(Options{})
	require.NoError(b, err)
	conn := l.Connection(caller(1000))
	b.ReportAllocs()
	for b.Loop() {
		if err := conn.Released(github); err != nil {
			b.Fatal(err)
		}
	}
}

package budget

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// here is a moment an hour after the boot.
var here = moment{bootID: "boot-1", boot: time.Hour, wall: time.Unix(1_800_000_000, 0)}

// later returns the moment d later, after a reboot if bootID is another.
func (m moment) later(d time.Duration, bootID string) moment {
	if bootID == m.bootID {
		m.boot += d
	} else {
		m.boot = 20 * time.Second
	}
	m.bootID, m.wall = bootID, m.wall.Add(d)
	return m
}

func TestRecordRoundTrip(t *testing.T) {
	l := standard(t)
	w := window{
		slots:   []slot{{id: "x-1", left: time.Hour - 5, release: time.Hour + time.Minute}, {id: "x-2", left: time.Hour - 4, release: time.Hour + 90*time.Second}},
		learned: lesson{remaining: 3, others: 2, asOf: time.Hour - 4, until: time.Hour + time.Second},
		blocked: time.Hour + time.Minute,
	}
	content, err := encode(&w, here)
	require.NoError(t, err)
	require.Equal(t, page, len(content), "one page, or a killed process could tear it")
	r, err := decode(content)
	require.NoError(t, err)
	got, otherBoot := r.window(here, l)
	require.False(t, otherBoot)
	// Less than a window and margin is not possible.
	w.slots[0].release = w.slots[0].left - future + l.hold()
	require.Equal(t, w, got)
}

func TestRecordOfManyFitsMorePages(t *testing.T) {
	l := standard(t)
	l.Limit = maxLimit
	w := full(time.Hour, l)
	content, err := encode(&w, here)
	require.NoError(t, err)
	require.Zero(t, len(content)%page)
	require.LessOrEqual(t, len(content), maxRecord)
	r, err := decode(content)
	require.NoError(t, err)
	got, _ := r.window(here, l)
	require.Equal(t, w, got)
}

func TestFortyDeparturesFitOnePage(t *testing.T) {
	w := window{learned: lesson{20, 20, time.Hour, time.Hour}, blocked: time.Hour}
	for range 40 {
		w.take("0123456789ab-100000", 1000*time.Hour, standard(t))
	}
	content, err := encode(&w, here)
	require.NoError(t, err)
	require.Equal(t, page, len(content))
}

func TestDecodeRefuses(t *testing.T) {
	good, err := encode(&window{}, here)
	require.NoError(t, err)
	flipped := []byte(strings.Replace(string(good), "boot-1", "boot-2", 1))
	tests := []struct {
		name    string
		content []byte
		want    error
	}{
		{"empty", nil, errEmpty},
		{"zeros", make([]byte, page), errGarbage},
		{"a word", []byte("hello"), errGarbage},
		{"a word and a line", []byte("hello\nworld"), errGarbage},
		{"a long line", []byte(strings.Repeat("x", 10_000) + "\n"), errGarbage},
		{"its head only", []byte("grantexd-ledger 1 10 00000000\n"), errGarbage},
		{"half a head", []byte("grantexd-ledger 1\n{}"), errGarbage},
		{"negative length", []byte("grantexd-ledger 1 -1 00000000\n{}"), errGarbage},
		{"cut", good[:60], errGarbage},
		{"one letter changed", flipped, errGarbage},
		{"another version", []byte("grantexd-ledger 2 0 00000000\n"), errVersion},
		{"no JSON", frame([]byte("{")), errGarbage},
		{"numbers too big", frame([]byte(`{"boot_ns":1e400}`)), errGarbage},
		{"nothing at all in it", frame(nil), errGarbage},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := decode(tt.content)
			require.ErrorIs(t, err, tt.want)
		})
	}
}

func TestSameBoot(t *testing.T) {
	tests := []struct {
		name           string
		written, reads string // boot ids
		boot, wall     time.Duration
		want           bool
	}{
		{"same id", "a", "a", time.Minute, -time.Hour, true},
		{"other id", "a", "b", time.Minute, time.Minute, false},
		{"writer without id, both clocks went on", "", "b", time.Minute, time.Minute, true},
		{"reader without id, both clocks went on", "a", "", time.Minute, time.Minute, true},
		{"no id, wall corrected a little", "", "", time.Minute, time.Minute + 5*time.Second - 1, true},
		{"no id, wall set", "", "", time.Minute, time.Minute + 5*time.Second, false},
		{"no id, boot went back", "", "", -time.Minute, -time.Minute, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := record{BootID: tt.written, BootNanos: int64(here.boot), WallNanos: here.wall.UnixNano()}
			m := moment{bootID: tt.reads, boot: here.boot + tt.boot, wall: here.wall.Add(tt.wall)}
			require.Equal(t, tt.want, r.sameBoot(m))
		})
	}
}

func TestElapsed(t *testing.T) {
	const most = time.Duration(math.MaxInt64 / 8)
	wall := here.wall.UnixNano()
	require.Equal(t, time.Second, elapsed(wall, wall+1e9))
	require.Equal(t, -time.Second, elapsed(wall+1e9, wall))
	require.Equal(t, most, elapsed(math.MinInt64, math.MaxInt64))
	require.Equal(t, -most, elapsed(math.MaxInt64, math.MinInt64))
	require.Equal(t, most, elapsed(0, math.MaxInt64))
	require.Equal(t, -most, elapsed(0, math.MinInt64))
}

func TestGarbageTimesAreBounded(t *testing.T) {
	l := standard(t)
	for _, n := range []int64{math.MaxInt64, math.MaxInt64 / 2, -1, math.MinInt64, 0} {
		for _, bootID := range []string{"boot-1", "boot-2", ""} {
			t.Run(fmt.Sprintf("%d in %q", n, bootID), func(t *testing.T) {
				r := record{
					BootID: bootID, BootNanos: n, WallNanos: n, BlockedNanos: n,
					Departures: []departureRecord{{"a", n, n}, {"b", n, math.MaxInt64}, {"c", math.MinInt64, n}},
					Learned:    &lessonRecord{int(n), int(n), n, n},
				}
				w, _ := r.window(here, l)
				requireBounded(t, w, here, l)
			})
		}
	}
}

// requireBounded checks that a window holds nobody up for longer than a real one
// could.
func requireBounded(t *testing.T, w window, m moment, l Limits) {
	t.Helper()
	for _, s := range w.slots {
		require.Greater(t, s.release, m.boot)
		require.LessOrEqual(t, s.release, m.boot+l.holdUnanswered()+future)
		require.LessOrEqual(t, s.left, m.boot+future)
		require.False(t, s.own || s.flying)
	}
	require.LessOrEqual(t, w.blocked, m.boot+l.MaxBlock)
	require.LessOrEqual(t, w.learned.until, m.boot+l.MaxBlock)
	require.LessOrEqual(t, w.learned.asOf, m.boot+future)
	require.GreaterOrEqual(t, w.learned.remaining, 0)
	require.GreaterOrEqual(t, w.learned.others, 0)
}

func TestAfterReboot(t *testing.T) {
	l := standard(t)
	// Answered at the moment of writing, so released 61 s later.
	written := window{
		slots:   []slot{{id: "x-1", left: here.boot, release: here.boot + l.hold()}},
		learned: lesson{remaining: 5, others: 1, asOf: here.boot - 1, until: here.boot + 40*time.Second},
		blocked: here.boot + 30*time.Second,
	}
	tests := []struct {
		name             string
		after            time.Duration // by the wall clock
		held             bool
		blocked, learned time.Duration // from then on
	}{
		{"at once", 0, true, 30 * time.Second, 40 * time.Second},
		{"after 29 s", 29 * time.Second, true, time.Second, 11 * time.Second},
		{"after 30 s", 30 * time.Second, true, 0, 10 * time.Second},
		{"after 40 s", 40 * time.Second, true, 0, 0},
		{"a nanosecond too early", 61*time.Second - 1, true, 0, 0},
		{"provably older", 61 * time.Second, false, 0, 0},
		{"the clock was set back", -time.Hour, true, 30 * time.Second, 40 * time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			content, err := encode(&written, here)
			require.NoError(t, err)
			r, err := decode(content)
			require.NoError(t, err)
			m := here.later(tt.after, "boot-2")
			w, otherBoot := r.window(m, l)
			require.True(t, otherBoot)
			requireBounded(t, w, m, l)
			require.Len(t, w.slots, map[bool]int{true: 1}[tt.held])
			if tt.held {
				require.Equal(t, m.boot+l.hold(), w.slots[0].release, "as if just answered")
			}
			require.Equal(t, tt.blocked, max(0, w.blocked-m.boot))
			require.Equal(t, tt.learned, max(0, w.learned.until-m.boot))
			if tt.learned > 0 {
				require.Equal(t, 4, w.learned.remaining, "one has left since")
				require.Equal(t, 4, w.quota())
			}
		})
	}
}

func TestInFlightAtReboot(t *testing.T) {
	l := standard(t)
	r := record{
		BootID: "boot-1", BootNanos: int64(here.boot), WallNanos: here.wall.UnixNano(),
		Departures: []departureRecord{{"x-1", int64(here.boot), int64(here.boot + l.holdUnanswered())}},
	}
	for after, rest := range map[time.Duration]time.Duration{
		-time.Hour:          91 * time.Second,
		5 * time.Second:     86 * time.Second, // the vault may count it 30 s after it left
		30 * time.Second:    61 * time.Second,
		90 * time.Second:    61 * time.Second,
		91*time.Second - 1:  61 * time.Second,
		91 * time.Second:    0,
		100000 * time.Hour:  0,
		-100000 * time.Hour: 91 * time.Second,
	} {
		m := here.later(after, "boot-2")
		w, _ := r.window(m, l)
		if rest == 0 {
			require.Empty(t, w.slots, "after %s", after)
			continue
		}
		require.Len(t, w.slots, 1, "after %s", after)
		require.Equal(t, rest, w.slots[0].release-m.boot, "after %s", after)
	}
}

func TestAnotherInstanceMayHaveAShorterWindow(t *testing.T) {
	long := standard(t)
	r := record{BootID: "boot-1", Departures: []departureRecord{{"short-1", int64(here.boot), int64(here.boot + time.Second)}}}
	w, _ := r.window(here, long)
	require.Equal(t, here.boot-future+61*time.Second, w.slots[0].release)
}

func FuzzLedger(f *testing.F) {
	good, err := encode(&window{slots: []slot{{id: "x-1", left: time.Hour, release: time.Hour + time.Minute}}, learned: lesson{1, 2, 3, 4}, blocked: 5}, here)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{"boot_id":"boot-1","boot_ns":1,"wall_unix_ns":2,"departures":[{"id":"a","left_ns":-1,"release_ns":9223372036854775807}]}`))
	f.Add([]byte(`{"boot_id":"boot-2","learned":{"remaining":-1,"others":-1,"as_of_ns":9223372036854775807,"until_ns":9223372036854775807}}`))
	f.Fuzz(func(t *testing.T, content []byte) {
		l := standard(t)
		// As it is, and as a body whose checksum is right.
		for _, content := range [][]byte{content, frame(content)} {
			r, err := decode(content)
			if err != nil {
				continue
			}
			w, _ := r.window(here, l)
			requireBounded(t, w, here, l)
			require.GreaterOrEqual(t, w.free(here.boot, l.Limit), 0)
			again, err := encode(&w, here)
			require.NoError(t, err)
			r, err = decode(again)
			require.NoError(t, err)
			same, otherBoot := r.window(here, l)
			require.False(t, otherBoot, "rewritten, it is of this boot")
			require.True(t, slices.Equal(w.slots, same.slots))
			require.Equal(t, w.learned, same.learned)
		}
	})
}

package budget

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/grantexd/grantexd/upstream"
)

// standard are the limits that the vault documents.
func standard(t *testing.T) Limits {
	t.Helper()
	l, err := Limits{}.withDefaults()
	require.NoError(t, err)
	return l
}

func TestPrune(t *testing.T) {
	const at = time.Hour
	tests := []struct {
		name          string
		slot          slot
		learned       lesson
		counts        bool
		remainingThen int
	}{
		{"a nanosecond before its release", slot{release: at + 1}, lesson{}, true, 0},
		{"at its release", slot{release: at}, lesson{}, false, 0},
		{"in flight beyond its release", slot{release: at - time.Minute, flying: true}, lesson{}, true, 0},
		{"left before the lesson", slot{left: 5, release: at}, lesson{remaining: 3, asOf: 5}, false, 3},
		{"left after the lesson", slot{left: 6, release: at}, lesson{remaining: 3, asOf: 5}, false, 2},
		{"after a lesson of nothing", slot{left: 6, release: at}, lesson{asOf: 5}, false, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := window{slots: []slot{tt.slot}, learned: tt.learned}
			w.prune(at)
			require.Equal(t, tt.counts, len(w.slots) == 1)
			require.Equal(t, tt.remainingThen, w.learned.remaining)
		})
	}
}

func TestFree(t *testing.T) {
	const at = time.Hour
	held := func(left ...time.Duration) (slots []slot) {
		for _, l := range left {
			slots = append(slots, slot{left: l, release: at + 1})
		}
		return slots
	}
	tests := []struct {
		name string
		w    window
		want int
	}{
		{"nothing", window{}, 3},
		{"some", window{slots: held(1, 2)}, 1},
		{"all", window{slots: held(1, 2, 3)}, 0},
		{"more than there are, after the limit sank", window{slots: held(1, 2, 3, 4)}, 0},
		{"the vault says less", window{learned: lesson{remaining: 1, until: at + 1}}, 1},
		{"the vault says more", window{slots: held(1, 2), learned: lesson{remaining: 9, asOf: 5, until: at + 1}}, 1},
		{"the vault's window is over", window{learned: lesson{remaining: 1, until: at}}, 3},
		{"what left after the answer counts against it", window{slots: held(1, 7), learned: lesson{remaining: 1, asOf: 5, until: at + 1}}, 0},
		{"what left before it is in it", window{slots: held(1, 5), learned: lesson{remaining: 1, asOf: 5, until: at + 1}}, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			require.Equal(t, tt.want, tt.w.free(at, 3))
		})
	}
}

func TestTakeKeepsOrder(t *testing.T) {
	l := standard(t)
	w := window{learned: lesson{asOf: time.Hour}}
	w.take("a", time.Hour, l)
	w.take("b", time.Hour, l)
	w.take("c", time.Hour-time.Second, l)
	require.Less(t, time.Hour, w.slots[0].left, "after the lesson")
	require.Less(t, w.slots[0].left, w.slots[1].left)
	require.Less(t, w.slots[1].left, w.slots[2].left)
	require.Equal(t, w.slots[0].left+91*time.Second, w.slots[0].release, "30 s of stall and 61 s more")
	require.True(t, w.slots[0].own && w.slots[0].flying)
}

func TestLearn(t *testing.T) {
	const at = time.Hour
	l := standard(t)
	before := lesson{remaining: 5, asOf: 100, until: at + time.Second}
	ten := []slot{{}, {}, {}, {}, {}, {}, {}, {}, {}, {}}
	known := func(limit, remaining int, reset time.Duration) upstream.RateLimit {
		return upstream.RateLimit{Limit: limit, Remaining: remaining, Reset: reset, Known: true}
	}
	tests := []struct {
		name string
		rate upstream.RateLimit
		left time.Duration
		want lesson
	}{
		{"newer, all ours", known(20, 10, time.Minute), 101, lesson{remaining: 10, asOf: 101, until: at + time.Minute}},
		{"newer, others spend", known(20, 7, time.Minute), 101, lesson{remaining: 7, others: 3, asOf: 101, until: at + time.Minute}},
		{"newer, the vault forgot", known(20, 19, time.Minute), 101, lesson{remaining: 19, asOf: 101, until: at + time.Minute}},
		{"newer, nothing remains", known(20, 0, 40*time.Second), 101, lesson{others: 10, asOf: 101, until: at + 40*time.Second}},
		{"newer, a day", known(20, 0, 24*time.Hour), 101, lesson{others: 10, asOf: 101, until: at + 10*time.Minute}},
		{"the same departure", known(20, 0, time.Minute), 100, before},
		{"older", known(20, 0, time.Minute), 99, before},
		{"unknown", upstream.RateLimit{}, 101, before},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := window{slots: ten, learned: before}
			w.learn(tt.rate, tt.left, at, l)
			require.Equal(t, tt.want, w.learned)
		})
	}
}

func TestNewer(t *testing.T) {
	old := lesson{remaining: 9, asOf: 1, until: 5}
	young := lesson{remaining: 12, asOf: 2, until: 4}
	require.Equal(t, young, newer(old, young))
	require.Equal(t, young, newer(young, old))
	spent := young
	spent.remaining = 10
	require.Equal(t, spent, newer(young, spent), "the same lesson, of which more was used")
	require.Equal(t, spent, newer(spent, young))
}

func TestBlock(t *testing.T) {
	const at = time.Hour
	l := standard(t)
	w := window{}
	w.block(time.Minute, at, l)
	require.Equal(t, at+time.Minute, w.blocked)
	w.block(time.Second, at, l)
	require.Equal(t, at+time.Minute, w.blocked, "a shorter one does not undo a longer one")
	w.block(time.Hour, at, l)
	require.Equal(t, at+10*time.Minute, w.blocked)
}

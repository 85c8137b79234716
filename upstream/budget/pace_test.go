package budget

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/grantexd/grantexd/upstream"
	"github.com/grantexd/grantexd/upstream/clock"
)

const pace = 3050 * time.Millisecond

func TestPacedFromTheStart(t *testing.T) {
	// All of them are faults of the file system itself.
	tests := []struct {
		name   string
		path   func(t *testing.T) string
		reason string
	}{
		{"no directory", func(t *testing.T) string {
			return filepath.Join(t.TempDir(), "missing", "ledger")
		}, "no such file"},
		{"a directory in its place", func(t *testing.T) string {
			return t.TempDir()
		}, "is a directory"},
		{"locked by a stuck process", func(t *testing.T) string {
			path := filepath.Join(t.TempDir(), "ledger")
			f, err := os.Create(path)
			require.NoError(t, err)
			t.Cleanup(func() { _ = f.Close() })
			require.NoError(t, flock(f, unix.LOCK_EX))
			return path
		}, "locked"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := tt.path(t)
			inBubble(t, Options{Path: path}, func(t *testing.T, r *rig) {
				require.Contains(t, r.budget.Status().Paced, tt.reason)
				require.Zero(t, r.budget.Status().Free)
				require.Equal(t, pace, r.budget.Status().NextSlotIn)
				trips := r.asks(30, upstream.ClassCheck)
				for i, trip := range trips {
					require.Equal(t, time.Duration(i+1)*pace, trip.delays[0], "it is told at once")
				}
				r.until(3 * time.Minute)
				for i, trip := range trips {
					require.Equal(t, time.Duration(i+1)*pace, trip.left)
				}
				require.Equal(t, 1, r.budget.Status().Free)
				require.Equal(t, []string{logPaced}, r.log.messages, "once")
			})
		})
	}
}

func TestPacedCountsInMemoryToo(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, r *rig) {
		l := &memoryLedger{}
		r.budget.on(l)
		r.asks(20, upstream.ClassCheck)
		l.fail(syscall.EROFS, nil)
		next := r.asks(2, upstream.ClassCheck)
		r.until(61*time.Second - 1)
		require.False(t, next[0].ended())
		r.until(61 * time.Second)
		require.True(t, next[0].ended())
		require.False(t, next[1].ended(), "one at a time")
		r.until(61*time.Second + pace)
		require.True(t, next[1].ended())
	})
}

func TestPacedStopsWhenTheLedgerWorks(t *testing.T) {
	faults := map[string]func(*memoryLedger, error){
		"broken": func(l *memoryLedger, err error) { l.fail(err, nil) },
		"full":   func(l *memoryLedger, err error) { l.fail(nil, err) },
	}
	for name, fault := range faults {
		t.Run(name, func(t *testing.T) {
			inBubble(t, Options{}, func(t *testing.T, r *rig) {
				l := &memoryLedger{}
				r.budget.on(l)
				r.asks(5, upstream.ClassCheck)
				r.until(10 * time.Second)
				require.Empty(t, r.budget.Status().Paced)

				fault(l, syscall.ENOSPC)
				trips := r.asks(4, upstream.ClassCheck)
				require.Equal(t, 5, r.vault.seen(), "what can't be written does not leave at once")
				require.ErrorIs(t, r.budget.pacing.reason, syscall.ENOSPC)
				r.until(10*time.Second + 2*pace)
				require.Equal(t, 7, r.vault.seen())
				require.False(t, trips[2].ended())

				fault(l, nil)
				r.until(10*time.Second + 2*pace + pollEvery)
				require.True(t, trips[3].ended(), "all that waited, at once")
				require.Equal(t, 9, r.vault.seen())
				require.Empty(t, r.budget.Status().Paced)
				require.Equal(t, []string{logPaced, logUnpaced}, r.log.messages)

				// What left meanwhile is in the ledger now.
				require.Equal(t, 9, r.open(Options{}).on(l).Status().Used)
			})
		})
	}
}

// flaky is a ledger of which only every other save succeeds.
type flaky struct {
	memoryLedger
	n int
}

func (f *flaky) update(patience bool, decide func([]byte, bool, func([]byte) error) error) error {
	return f.memoryLedger.update(patience, func(content []byte, created bool, save func([]byte) error) error {
		return decide(content, created, func(content []byte) error {
			if f.n++; f.n%2 == 0 {
				return errors.New("every other time")
			}
			return save(content)
		})
	})
}

func TestFlakyLedgerDelaysNobodyForever(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, r *rig) {
		r.budget.on(&flaky{})
		trips := r.asks(5, upstream.ClassCheck)
		r.until(5 * (pace + pollEvery))
		for _, trip := range trips {
			require.True(t, trip.ended())
		}
	})
}

func TestGarbageThatCantBeOverwrittenDoesNotStopUs(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, r *rig) {
		l := &memoryLedger{content: []byte("garbage"), exists: true, full: syscall.EROFS}
		r.budget.on(l)
		trips := r.asks(2, upstream.ClassCheck)
		r.until(2 * pace)
		require.True(t, trips[1].ended())
		// As it gets writable, what is left of the full window counts.
		l.fail(nil, nil)
		third := r.ask(request{class: upstream.ClassCheck})
		r.until(61*time.Second - 1)
		require.False(t, third.ended())
		r.until(61 * time.Second)
		require.True(t, third.ended())
		require.Equal(t, []string{logFull, logPaced, logUnpaced}, r.log.messages)
	})
}

func TestGarbageOnADiskThatWasFullForLong(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, r *rig) {
		l := &memoryLedger{content: []byte("garbage"), exists: true, full: syscall.ENOSPC}
		r.budget.on(l)
		r.until(time.Hour)
		l.fail(nil, nil)
		require.Equal(t, 20, r.budget.Status().Free)
		// Another time is another garbage.
		l.content = []byte("more garbage")
		require.Equal(t, 61*time.Second, r.budget.Status().NextSlotIn)
	})
}

func TestGarbageTwice(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, r *rig) {
		l := &memoryLedger{}
		other := r.open(Options{}).on(l)
		good := l.content
		l.content, l.full = []byte("garbage"), syscall.ENOSPC
		r.budget.on(l)
		r.until(time.Hour)
		l.content = good // another instance could write it; we still can't
		require.NotEmpty(t, r.budget.Status().Paced)
		l.content, l.full = []byte("garbage"), nil
		require.Equal(t, 61*time.Second, r.budget.Status().NextSlotIn, "this garbage is new")
		require.Equal(t, 20, other.Status().Used)
	})
}

func TestCrashLoopWithoutALedger(t *testing.T) {
	// Restarted every two seconds, a paced budget never lets anything leave;
	// every four, it lets one leave each time.
	for every, want := range map[time.Duration]int{2 * time.Second: 0, 4 * time.Second: 15} {
		synctest.Test(t, func(t *testing.T) {
			o := Options{Path: filepath.Join(t.TempDir(), "missing", "ledger"), Clock: clock.NewFake()}
			left := 0
			for range time.Minute / every {
				b, err := New(o)
				require.NoError(t, err)
				v := &vault{clock: b.clock}
				ctx, cancel := contextOf(t, every)
				for range 20 {
					go func() { _, _ = roundTrip(ctx, b.Transport(v)) }()
				}
				time.Sleep(every)
				cancel()
				synctest.Wait()
				left += v.seen()
			}
			require.Equal(t, want, left)
		})
	}
}

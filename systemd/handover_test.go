package systemd

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func newHandover(t *testing.T, in *Inherited) *Handover {
	t.Helper()
	h, err := NewHandover("cache", in)
	require.NoError(t, err)
	return h
}

func TestHandoverReachesTheNextProcessOnce(t *testing.T) {
	m := startManager(t, "")
	first := newHandover(t, nil)
	require.True(t, first.Available())
	require.NoError(t, first.Store([]byte("old")))
	require.NoError(t, first.Store([]byte("new")))
	m.settle(t)
	require.Equal(t, []string{"new"}, m.stored(t, "cache"), "storing replaces")

	in := m.pass(t)
	second := newHandover(t, in)
	require.NotContains(t, in.Stored, "cache", "it belongs to the hand-over")
	content, err := second.Take()
	require.NoError(t, err)
	require.Equal(t, "new", string(content))

	m.settle(t)
	require.Empty(t, m.stored(t, "cache"), "taken content would be taken again after a crash")
	content, err = second.Take()
	require.NoError(t, err)
	require.Nil(t, content)
}

func TestHandoverOfNothingIsNotNothing(t *testing.T) {
	m := startManager(t, "")
	require.NoError(t, newHandover(t, nil).Store([]byte{}))
	m.settle(t)
	content, err := newHandover(t, m.pass(t)).Take()
	require.NoError(t, err)
	require.NotNil(t, content)
	require.Empty(t, content)
}

func TestHandoverLeavesOtherNamesAlone(t *testing.T) {
	m := startManager(t, "")
	other, err := NewHandover("other", nil)
	require.NoError(t, err)
	require.NoError(t, other.Store([]byte("theirs")))
	h := newHandover(t, nil)
	require.NoError(t, h.Store([]byte("ours")))
	require.NoError(t, h.Remove(context.Background()))
	require.Equal(t, []string{"theirs"}, m.stored(t, "other"))

	in := m.pass(t)
	content, err := newHandover(t, in).Take()
	require.NoError(t, err)
	require.Nil(t, content)
	require.Contains(t, in.Stored, "other")
}

func TestRemoveIsDoneWhenItReturns(t *testing.T) {
	m := startManager(t, "")
	h := newHandover(t, nil)
	require.NoError(t, h.Store([]byte("secret")))
	require.NoError(t, h.Remove(context.Background()))
	// No settling here: that is what Remove promises.
	require.Empty(t, m.stored(t, "cache"))
}

func TestRemoveDropsWhatWasNotTaken(t *testing.T) {
	m := startManager(t, "")
	require.NoError(t, newHandover(t, nil).Store([]byte("secret")))
	m.settle(t)
	h := newHandover(t, m.pass(t))
	require.NoError(t, h.Remove(context.Background()))
	content, err := h.Take()
	require.NoError(t, err)
	require.Nil(t, content)
	require.Empty(t, m.stored(t, "cache"))
}

func TestRemoveIsNotDoneWithoutTheManagersWord(t *testing.T) {
	m := startManager(t, "")
	m.turnDeaf()
	h := newHandover(t, nil)

	t.Run("the caller gives up", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
		defer cancel()
		err := h.Remove(ctx)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorContains(t, err, "remove hand-over cache")
	})
	t.Run("the caller was gone before", func(t *testing.T) {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		require.ErrorIs(t, h.Remove(ctx), context.Canceled)
	})
}

func TestConcurrentUseLeavesNothingAfterRemove(t *testing.T) {
	m := startManager(t, "")
	h := newHandover(t, nil)
	for range 20 {
		var storing sync.WaitGroup
		storing.Go(func() { _ = h.Store([]byte("a")) })
		storing.Go(func() { _ = h.Store([]byte("b")) })
		storing.Wait()
		require.NoError(t, h.Remove(context.Background()))
		require.Empty(t, m.stored(t, "cache"))
		m.settle(t)
	}
}

func TestFailedStoreLeavesNothingOutOfDate(t *testing.T) {
	m := startManager(t, "")
	h := newHandover(t, nil)
	require.NoError(t, h.Store([]byte("old")))
	require.ErrorIs(t, h.Store(make([]byte, MaxSealed+1)), ErrTooLarge)
	m.settle(t)
	require.Empty(t, m.stored(t, "cache"))
}

func TestTakeRefuses(t *testing.T) {
	const canary = "canary-of-the-test"
	sealed := func(t *testing.T) *os.File {
		f, err := SealedMemfd("cache", []byte(canary))
		require.NoError(t, err)
		return f
	}
	tests := []struct {
		name  string
		files func(t *testing.T) []*os.File
		want  string
	}{
		{"a memfd that is not sealed", func(t *testing.T) []*os.File {
			f := sparseMemfd(t, 0, 0)
			_, err := f.WriteString(canary)
			require.NoError(t, err)
			return []*os.File{f}
		}, "not a sealed memfd"},
		{"one that is too large", func(t *testing.T) []*os.File {
			return []*os.File{sparseMemfd(t, MaxSealed+1, seals)}
		}, "more than"},
		{"two", func(t *testing.T) []*os.File { return []*os.File{sealed(t), sealed(t)} }, "2 were stored"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := startManager(t, "")
			files := tt.files(t)
			for _, f := range files {
				require.NoError(t, sendStore("cache", f))
			}
			m.settle(t)
			h := newHandover(t, &Inherited{Stored: map[string][]*os.File{"cache": files}})
			content, err := h.Take()
			require.ErrorContains(t, err, tt.want)
			require.NotContains(t, err.Error(), canary)
			require.Nil(t, content)
			for _, f := range files {
				require.ErrorIs(t, f.Close(), os.ErrClosed, "it must not stay open")
			}
			m.settle(t)
			require.Empty(t, m.stored(t, "cache"), "it must not come back at the next start")
		})
	}
}

func TestHandoverNames(t *testing.T) {
	tests := []struct {
		name string
		give string
		ok   bool
	}{
		{"a word", "cache", true},
		{"as long as may be", strings.Repeat("x", maxDescriptorName), true},
		{"longer", strings.Repeat("x", maxDescriptorName+1), false},
		{"empty", "", false},
		{"a colon, which separates names", "a:b", false},
		{"a line break, which separates assignments", "a\nREADY=1", false},
		{"not ASCII", "caché", false},
		{"a space", "a b", true},
		{"the last printable character", "~", true},
		{"the one after", "\x7f", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := NewHandover(tt.give, nil)
			require.Equal(t, tt.ok, err == nil, "%v", err)
		})
	}
}

// A manager that stopped reading must not hang whoever notifies it for good.
func TestSendGivesUpOnAManagerThatDoesNotRead(t *testing.T) {
	name := filepath.Join(socketDir(t), "s")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close()) }()
	for range 10_000 {
		if err = sendTo(name, 10*time.Millisecond, "STATUS="); err != nil {
			break
		}
	}
	require.ErrorIs(t, err, unix.EAGAIN)
}

func TestStoreIfKeepsNothingThatIsOutOfDate(t *testing.T) {
	m := startManager(t, "")
	h := newHandover(t, nil)
	require.NoError(t, h.Store([]byte("good")))
	require.NoError(t, h.StoreIf([]byte("out of date"), func() bool { return false }))
	m.settle(t)
	require.Equal(t, []string{"good"}, m.stored(t, "cache"))
	require.NoError(t, h.StoreIf([]byte("newer"), func() bool { return true }))
	m.settle(t)
	require.Equal(t, []string{"newer"}, m.stored(t, "cache"))
}

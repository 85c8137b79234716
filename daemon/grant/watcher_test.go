package grant

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fsnotify/fsnotify"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// fast are options for tests of events: shorter waits, but for the polls, which
// must not be what finds a change.
var fast = Options{
	Debounce: 20 * time.Millisecond, Settle: 20 * time.Millisecond,
	Poll: time.Minute, FastPoll: time.Minute,
}

// replacements are the ways in which a grant file can be replaced.
var replacements = []struct {
	name string
	// setup puts the old token at path, below dir; replace the new one.
	setup   func(t *testing.T, dir, path, old string)
	replace func(t *testing.T, dir, path, fresh string)
}{
	{"renamed over", plainFile, func(t *testing.T, _, path, fresh string) {
		replaceFile(t, path, fresh)
	}},
	{"written in place", plainFile, func(t *testing.T, _, path, fresh string) {
		put(t, path, fresh)
	}},
	{"deleted and created", plainFile, func(t *testing.T, _, path, fresh string) {
		require.NoError(t, os.Remove(path))
		put(t, path, fresh)
	}},
	{"written in pieces", plainFile, func(t *testing.T, _, path, fresh string) {
		f, err := os.Create(path)
		require.NoError(t, err)
		for piece := range strings.SplitSeq(fresh, "") {
			_, err := f.WriteString(piece)
			require.NoError(t, err)
		}
		require.NoError(t, f.Close())
	}},
	{"moved in from elsewhere", plainFile, func(t *testing.T, dir, path, fresh string) {
		put(t, dir+"/elsewhere", fresh)
		require.NoError(t, os.Rename(dir+"/elsewhere", path))
	}},
	{"swapped by exchange", plainFile, func(t *testing.T, dir, path, fresh string) {
		put(t, dir+"/other", fresh)
		require.NoError(t, unix.Renameat2(unix.AT_FDCWD, dir+"/other", unix.AT_FDCWD, path, unix.RENAME_EXCHANGE))
	}},
	{"a Kubernetes volume is updated", func(t *testing.T, _, path, old string) {
		updateVolume(t, filepath.Dir(path), "..1", old)
		link(t, "..data/grant", path)
	}, func(t *testing.T, _, path, fresh string) {
		updateVolume(t, filepath.Dir(path), "..2", fresh)
	}},
	{"a Kubernetes volume, by a link from elsewhere", func(t *testing.T, dir, path, old string) {
		mkdir(t, dir+"/volume")
		updateVolume(t, dir+"/volume", "..1", old)
		link(t, "..data/grant", dir+"/volume/grant")
		link(t, "../volume/grant", path)
	}, func(t *testing.T, dir, _, fresh string) {
		updateVolume(t, dir+"/volume", "..2", fresh)
	}},
	{"a link is pointed elsewhere", func(t *testing.T, dir, path, old string) {
		put(t, dir+"/one", old)
		link(t, dir+"/one", path)
	}, func(t *testing.T, dir, path, fresh string) {
		mkdir(t, dir+"/far")
		put(t, dir+"/far/two", fresh)
		link(t, dir+"/far/two", path+".new")
		require.NoError(t, os.Rename(path+".new", path))
	}},
	{"the end of a chain of links is replaced", func(t *testing.T, dir, path, old string) {
		mkdir(t, dir+"/a")
		mkdir(t, dir+"/b")
		put(t, dir+"/b/real", old)
		link(t, "../b/real", dir+"/a/link")
		link(t, dir+"/a/link", path)
	}, func(t *testing.T, dir, _, fresh string) {
		replaceFile(t, dir+"/b/real", fresh)
	}},
	{"the directory is removed and made again", plainFile, func(t *testing.T, dir, path, fresh string) {
		require.NoError(t, os.RemoveAll(filepath.Dir(path)))
		mkdir(t, filepath.Dir(path))
		put(t, path, fresh)
	}},
	{"the directory is replaced by another", plainFile, func(t *testing.T, dir, path, fresh string) {
		mkdir(t, dir+"/next")
		put(t, dir+"/next/grant", fresh)
		require.NoError(t, os.Rename(filepath.Dir(path), dir+"/former"))
		require.NoError(t, os.Rename(dir+"/next", filepath.Dir(path)))
	}},
	{"a directory further up is replaced", plainFile, func(t *testing.T, dir, path, fresh string) {
		rel, err := filepath.Rel(dir, path)
		require.NoError(t, err)
		put2(t, filepath.Join(dir+".next", rel), fresh)
		require.NoError(t, os.Rename(dir, dir+".former"))
		require.NoError(t, os.Rename(dir+".next", dir))
	}},
	{"the file appears", nil, func(t *testing.T, _, path, fresh string) { put(t, path, fresh) }},
}

func TestReplacementsAreSeen(t *testing.T) {
	t.Parallel()
	for _, tt := range replacements {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := privateDir(t) + "/top"
			path := filepath.Join(dir, "d", "grant")
			mkdir(t, filepath.Dir(path))
			old, fresh := numbered("old "+tt.name), numbered("fresh "+tt.name)
			opts := fast
			opts.Path = path
			r := newRig(t, opts)
			if tt.setup != nil {
				tt.setup(t, dir, path, old)
			}
			r.start()
			if tt.setup != nil {
				r.wants(old)
			}
			r.watched()
			tt.replace(t, dir, path, fresh)
			r.wants(fresh)
			require.Empty(t, r.Current().Problem)
			// The watches must have followed: a second change is seen as well.
			if real, err := filepath.EvalSymlinks(path); err == nil {
				again := numbered("again " + tt.name)
				replaceFile(t, real, again)
				r.wants(again)
			}
			r.quiet()
		})
	}
}

func plainFile(t *testing.T, _, path, old string) { put(t, path, old) }

// put2 writes a file and makes its directory.
func put2(t *testing.T, path, content string) {
	t.Helper()
	mkdir(t, filepath.Dir(path))
	put(t, path, content)
}

// updateVolume does what the kubelet's atomic writer does with a volume: a new
// directory, and the link ..data renamed over to it; the old directory goes.
func updateVolume(t *testing.T, dir, version, content string) {
	t.Helper()
	former, _ := os.Readlink(dir + "/..data")
	mkdir(t, filepath.Join(dir, version))
	put(t, filepath.Join(dir, version, "grant"), content)
	link(t, version, dir+"/..data_tmp")
	require.NoError(t, os.Rename(dir+"/..data_tmp", dir+"/..data"))
	if former != "" {
		require.NoError(t, os.RemoveAll(filepath.Join(dir, former)))
	}
}

func TestMissingDirectoriesAppear(t *testing.T) {
	t.Parallel()
	dir := privateDir(t)
	token := numbered("tok_late")
	opts := fast
	opts.Path, opts.GoneAfter = dir+"/a/b/c/grant", 200*time.Millisecond
	r := newRig(t, opts).start()
	require.Contains(t, r.Current().Problem, "does not exist")
	require.Equal(t, Absent, r.Current().State)
	mkdir(t, dir+"/a/b/c")
	put(t, dir+"/a/b/c/grant", token)
	r.wants(token)

	require.NoError(t, os.RemoveAll(dir+"/a"))
	require.Equal(t, Withdrawn, r.next(patience).State)
	put2(t, dir+"/a/b/c/grant", token)
	r.wants(token)
}

func TestKillSwitch(t *testing.T) {
	t.Parallel()
	for name, remove := range map[string]func(string) error{
		"file deleted":      os.Remove,
		"directory removed": func(p string) error { return os.RemoveAll(filepath.Dir(p)) },
		"directory moved":   func(p string) error { return os.Rename(filepath.Dir(p), filepath.Dir(p)+".away") },
		"link cut":          func(p string) error { return os.Rename(p, p+".away") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			token := numbered("tok_kill " + name)
			opts := fast
			opts.Path, opts.GoneAfter = privateDir(t)+"/d/grant", 200*time.Millisecond
			r := newRig(t, opts)
			put2(t, r.path, token)
			r.start().wants(token)
			r.watched()

			removed := time.Now()
			require.NoError(t, remove(r.path))
			s := r.next(patience)
			require.GreaterOrEqual(t, time.Since(removed), opts.GoneAfter, "a writer needs its gap")
			require.Equal(t, Withdrawn, s.State)
			require.Nil(t, s.Grant)
			require.Contains(t, s.Problem, "does not exist")
			require.Equal(t, s, r.Current())

			put2(t, r.path, token)
			r.wants(token)
			require.Empty(t, r.Current().Problem)
		})
	}
}

func TestTheDefaultsAreFastEnough(t *testing.T) {
	t.Parallel()
	first, second := numbered("tok_1"), numbered("tok_2")
	r := newRig(t, Options{}).write(first).start()
	r.wants(first)
	r.watched()
	r.write(second)
	r.wantsWithin(time.Second, second)

	removed := time.Now()
	require.NoError(t, os.Remove(r.path))
	require.Equal(t, Withdrawn, r.next(3*time.Second).State)
	require.GreaterOrEqual(t, time.Since(removed), 2*time.Second)
}

func TestBadContentKeepsTheToken(t *testing.T) {
	t.Parallel()
	token, next := numbered("tok_good"), numbered("tok_next")
	r := newRig(t, fast).write(token).start()
	r.wants(token)
	for _, bad := range []struct{ content, problem string }{
		{"", "empty"},
		{token[:len(token)-100], "wrong length"},
		{token[:200], "not a JWT"},
		{"garbage", "not a JWT"},
		{"Bearer " + token, "Bearer"},
		{strings.Repeat("x", 17_000), "longer than 16384"},
	} {
		put(t, r.path, bad.content)
		r.problem(bad.problem)
		require.Contains(t, r.Current().Problem, "last good token")
		require.Equal(t, Usable, r.Current().State)
		require.Equal(t, token, r.Current().Grant.Token.Reveal())
	}
	require.NoError(t, os.Remove(r.path))
	require.NoError(t, unix.Mkfifo(r.path, 0o600))
	r.problem("a named pipe")
	r.quiet()
	require.NoError(t, os.Remove(r.path))
	put(t, r.path, next)
	r.wants(next)
	require.Equal(t, 1, r.log.count("problem with the grant file\" problem=\""+r.path+": empty"))
}

func TestChangesDuringALookAreSeen(t *testing.T) {
	t.Parallel()
	dir := privateDir(t)
	first, second := numbered("tok_1"), numbered("tok_2")
	opts := fast
	opts.Path = dir + "/grant"
	changes := make(chan Snapshot, 2)
	opts.OnChange = func(s Snapshot) {
		if s.Grant.Token.Reveal() == first {
			replaceFile(t, dir+"/far/real", second)
			// The event should come while the look lasts. Were it later, this
			// test would show nothing, but not fail.
			<-time.After(50 * time.Millisecond)
		}
		changes <- s
	}
	r := newRig(t, opts).start()
	r.changes = changes
	r.watched()
	put2(t, dir+"/far/real", first)
	link(t, "far/real", r.path) // so that this look finds names that were not watched for
	r.wants(first)
	r.wants(second)
}

func TestEndlessEventsDontPutOffTheReading(t *testing.T) {
	t.Parallel()
	first, second := numbered("tok_1"), numbered("tok_2")
	r := newRig(t, fast).write(first).start()
	r.wants(first)
	r.watched()
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for mode := os.FileMode(0o600); ; mode ^= 0o200 {
			_ = os.Chmod(r.path, mode) // an event; the file may be between two names
			select {
			case <-time.After(fast.Debounce / 4):
			case <-stop:
				return
			}
		}
	}()
	r.write(second)
	r.wants(second)
	close(stop)
	<-stopped
}

func TestSameTokenInAnotherFormIsNoChange(t *testing.T) {
	t.Parallel()
	token := numbered("tok_form")
	r := newRig(t, Options{}).write(token).start()
	r.wants(token)
	loaded := r.Current().LoadedAt
	r.write(fmt.Sprintf(`{"grantToken":%q}`, token))
	_, err := r.Reread(context.Background())
	require.NoError(t, err)
	r.quiet()
	require.Equal(t, loaded, r.Current().LoadedAt)
}

func TestStrictFollowsTheMode(t *testing.T) {
	t.Parallel()
	path := filepath.Join(openDir(t), "grant")
	put(t, path, numbered("tok_strict"))
	require.NoError(t, os.Chmod(path, 0o644))
	r := newRig(t, Options{Path: path, Strict: true, Debounce: fast.Debounce, Settle: fast.Settle}).start()
	require.Equal(t, Absent, r.Current().State)
	require.Contains(t, r.Current().Problem, "refused, since other users can read it (mode 0644): run chmod o= "+path)
	r.watched()
	require.NoError(t, os.Chmod(path, 0o640))
	require.Equal(t, Usable, r.next(patience).State)
	require.NoError(t, os.Chmod(filepath.Dir(path), 0o700))
	require.NoError(t, os.Chmod(path, 0o644))
	_, err := r.Reread(context.Background())
	require.NoError(t, err)
	r.quiet()
	require.NoError(t, os.Chmod(filepath.Dir(path), 0o755))
	require.Equal(t, Withdrawn, r.next(patience).State)
}

func TestModeIsWarnedOfOnce(t *testing.T) {
	t.Parallel()
	path := filepath.Join(openDir(t), "grant")
	put(t, path, numbered("tok_mode"))
	require.NoError(t, os.Chmod(path, 0o644))
	r := newRig(t, Options{Path: path}).start()
	require.Equal(t, Usable, r.next(patience).State)
	for range 3 {
		_, err := r.Reread(context.Background())
		require.NoError(t, err)
	}
	require.Equal(t, 1, r.log.count("other users can read it"))
	require.Contains(t, r.Current().Problem, "other users can read it")
}

func TestLostWatchesAreFoundByThePoll(t *testing.T) {
	t.Parallel()
	first, second := numbered("tok_first"), numbered("tok_second")
	opts := fast
	opts.Poll = 300 * time.Millisecond
	r := newRig(t, opts).write(first)
	r.start().wants(first)
	lost := r.watched()
	for _, dir := range lost.WatchList() {
		_ = lost.Remove(dir) // as when a file system is mounted over it
	}
	r.write(second)
	r.wants(second)
	require.NotEmpty(t, lost.WatchList(), "the poll must set the watches again")
}

func TestSentryWarnsOnceOfWhatItCantWatch(t *testing.T) {
	log := &lockedBuffer{}
	s := newSentry(fsnotify.NewWatcher, DefaultFastPoll, log.logger())
	s.close() // now every watch fails
	for range 3 {
		_, ok := s.follow(realDir(t) + "/grant")
		require.False(t, ok)
	}
	require.Equal(t, 1, log.count("can't watch the grant file"))
	require.Equal(t, 1, log.count("let the daemon's user read"))
}

func TestSentryForgetsWhatIsOffTheChain(t *testing.T) {
	dir := realDir(t)
	for _, d := range []string{"a", "b"} {
		put2(t, dir+"/"+d+"/real", "")
	}
	link(t, "a/real", dir+"/grant")
	s := newSentry(fsnotify.NewWatcher, DefaultFastPoll, (&lockedBuffer{}).logger())
	defer s.close()
	_, ok := s.follow(dir + "/grant")
	require.True(t, ok)
	require.Contains(t, s.notify.WatchList(), dir+"/a")

	require.NoError(t, os.Remove(dir+"/grant"))
	link(t, "b/real", dir+"/grant")
	_, ok = s.follow(dir + "/grant")
	require.True(t, ok)
	require.Contains(t, s.notify.WatchList(), dir+"/b")
	require.NotContains(t, s.notify.WatchList(), dir+"/a")

	require.NoError(t, os.RemoveAll(dir+"/b"))
	_, ok = s.follow(dir + "/grant")
	require.False(t, ok, "a missing directory can't be watched")
}

func TestRereadDeliversBeforeItReturns(t *testing.T) {
	t.Parallel()
	for _, running := range []bool{true, false} {
		t.Run(fmt.Sprintf("running %t", running), func(t *testing.T) {
			t.Parallel()
			var delivered atomic.Pointer[Snapshot]
			r := newRig(t, Options{Debounce: time.Hour, OnChange: func(s Snapshot) { delivered.Store(&s) }})
			if running {
				r.start()
			}
			for i := range 3 {
				token := numbered(fmt.Sprintf("tok_%d", i))
				r.write(token)
				s, err := r.Reread(context.Background())
				require.NoError(t, err)
				require.Equal(t, token, s.Grant.Token.Reveal())
				require.Equal(t, token, delivered.Load().Grant.Token.Reveal())
			}
		})
	}
}

func TestRereadWhileOnChangeIsBusy(t *testing.T) {
	t.Parallel()
	entered, leave := make(chan struct{}), make(chan struct{})
	var w *Watcher
	var calls atomic.Int32
	r := newRig(t, Options{OnChange: func(Snapshot) {
		w.Current() // must not need a lock that is held here
		if calls.Add(1) == 2 {
			close(entered)
			<-leave
		}
	}})
	w = r.Watcher
	first, second, third := numbered("tok_1"), numbered("tok_2"), numbered("tok_3")
	r.write(first).start()
	r.write(second)
	<-entered

	ctx, cancel := context.WithCancelCause(context.Background())
	gone := errors.New("the flight was dropped")
	cancel(gone)
	_, err := r.Reread(ctx)
	require.ErrorIs(t, err, gone, "an OnChange that waits for a cancelled Reread must not wait for ever")

	r.write(third)
	rereads := make(chan Snapshot, 4)
	for range cap(rereads) {
		go func() {
			s, err := r.Reread(context.Background())
			if err == nil {
				rereads <- s
			}
		}()
	}
	require.Eventually(t, func() bool { return r.Current().Grant.Token.Reveal() == third },
		patience, 5*time.Millisecond, "Current must not wait for OnChange")
	require.Empty(t, rereads, "the change has not been handed over yet")
	close(leave)
	for range cap(rereads) {
		s := <-rereads
		require.Equal(t, third, s.Grant.Token.Reveal())
		require.EqualValues(t, 3, calls.Load(), "handed over before any Reread returned")
	}
}

func TestChangesComeOneAtATimeAndInOrder(t *testing.T) {
	t.Parallel()
	var busy atomic.Bool
	var mu sync.Mutex // guards got
	var got []string
	r := newRig(t, Options{Debounce: time.Millisecond, Settle: time.Millisecond, OnChange: func(s Snapshot) {
		if !busy.CompareAndSwap(false, true) {
			panic("two calls of OnChange at once")
		}
		defer busy.Store(false)
		mu.Lock()
		defer mu.Unlock()
		got = append(got, s.Grant.Claims.TokenID)
	}})
	r.start()
	for i := range 30 {
		id := fmt.Sprintf("tok_%02d", i)
		r.write(numbered(id))
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() { _, _ = r.Reread(context.Background()) })
		}
		all.Wait()
		require.Equal(t, id, r.Current().Grant.Claims.TokenID)
	}
	r.stop()
	mu.Lock()
	defer mu.Unlock()
	require.Len(t, got, 30)
	require.IsIncreasing(t, got)
}

func TestTokensAreNeverTold(t *testing.T) {
	t.Parallel()
	token, next := numbered("tok_canary"), numbered("tok_canary_next")
	expired := standardClaims(time.Now().Add(-48*time.Hour), time.Hour).token()
	r := newRig(t, Options{Path: filepath.Join(openDir(t), "grant"), GoneAfter: 50 * time.Millisecond, Settle: 20 * time.Millisecond})
	var told strings.Builder
	r.start()
	for _, content := range []string{
		token, token[:300], token[:len(token)-9], "Bearer " + token, `{"grantToken":"` + token,
		`{"grantToken":["` + token + `"]}`, `{"token":"` + token + `"}`, token + "\n" + next, expired, next,
		jwtOf(`{"alg":"RS256"}`, `{"exp":"`+token+`"}`, 256),
	} {
		r.write(content)
		s, err := r.Reread(context.Background())
		require.NoError(t, err)
		fmt.Fprintf(&told, "%v %+v %#v %s\n", s, s, s, s.Problem)
		if s.Grant != nil {
			fmt.Fprintf(&told, "%v %+v %#v\n", s.Grant, *s.Grant, *s.Grant)
		}
		require.NoError(t, os.Chmod(r.path, 0o644))
		_, err = r.Reread(context.Background())
		require.NoError(t, err)
	}
	require.NoError(t, os.Remove(r.path))
	require.Eventually(t, func() bool { return r.Current().State == Withdrawn }, patience, 5*time.Millisecond)
	r.stop()

	all := told.String() + r.log.String()
	require.Contains(t, all, "other users can read it")
	require.Contains(t, all, "withdrawn")
	require.Greater(t, strings.Count(all, "problem with"), 3)
	for _, secret := range []string{token, next, expired} {
		for segment := range strings.SplitSeq(secret, ".") {
			for i := 0; i+12 <= len(segment); i += 12 {
				require.NotContains(t, all, segment[i:i+12])
			}
		}
	}
}

func TestNew(t *testing.T) {
	_, err := New(Options{})
	require.ErrorContains(t, err, "no path")
	for name, o := range map[string]Options{
		"debounce":   {Debounce: -1},
		"settle":     {Settle: -1},
		"poll":       {Poll: -1},
		"fast poll":  {FastPoll: -1},
		"gone after": {GoneAfter: -1},
	} {
		o.Path = "grant"
		_, err := New(o)
		require.ErrorContains(t, err, name+" must not be negative")
	}

	w, err := New(Options{Path: "a/../grant"})
	require.NoError(t, err)
	dir, err := os.Getwd()
	require.NoError(t, err)
	require.Equal(t, dir+"/a/../grant", w.file.path)
	require.Equal(t, Snapshot{}, w.Current())
	require.Equal(t, []time.Duration{DefaultDebounce, DefaultSettle, DefaultPoll, DefaultFastPoll, DefaultGoneAfter},
		[]time.Duration{w.opts.Debounce, w.opts.Settle, w.opts.Poll, w.opts.FastPoll, w.opts.GoneAfter})
	require.NoError(t, w.Load(context.Background()), "no logger and no OnChange are needed")
}

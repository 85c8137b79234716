package grant

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fsnotify/fsnotify"
	"github.com/stretchr/testify/require"

	"github.com/grantexd/grantexd/upstream/clock"
)

// inBubble runs a test in virtual time, with real files but without inotify,
// whose reader would keep the time from passing. Every duration in it is exact.
func inBubble(t *testing.T, test func(r *rig, c *clock.Fake)) {
	path := filepath.Join(privateDir(t), "d", "grant")
	mkdir(t, filepath.Dir(path))
	synctest.Test(t, func(t *testing.T) {
		c := clock.NewFake()
		r := newRig(t, Options{Path: path, Clock: c})
		r.notify = func() (*fsnotify.Watcher, error) {
			return nil, os.NewSyscallError("inotify_init1", syscall.EMFILE)
		}
		defer func() { r.stop() }()
		test(r, c)
	})
}

// run starts the watcher and waits until it has done its first reading.
func (r *rig) run() {
	r.start()
	synctest.Wait()
}

// endless is a token that never expires, whatever the time in a bubble is.
func endless(id string) string { return claimSet{"jti": id}.token() }

func (r *rig) held() string {
	if g := r.Current().Grant; g != nil {
		return g.Claims.TokenID
	}
	return ""
}

func TestWithoutInotifyTheFileIsPolled(t *testing.T) {
	inBubble(t, func(r *rig, _ *clock.Fake) {
		r.write(endless("A")).run()
		require.Equal(t, "A", r.held())
		require.Equal(t, 1, r.log.count("can't watch the grant file"))
		require.Equal(t, 1, r.log.count("fs.inotify.max_user_instances"))

		r.write(endless("B"))
		time.Sleep(DefaultFastPoll + DefaultSettle)
		synctest.Wait()
		require.Equal(t, "B", r.held())

		require.NoError(t, os.Remove(r.path))
		time.Sleep(DefaultFastPoll + DefaultGoneAfter) // within 3 s
		synctest.Wait()
		require.Equal(t, Withdrawn, r.Current().State)

		require.NoError(t, os.Remove(filepath.Dir(r.path)))
		time.Sleep(time.Minute)
		put2(t, r.path, endless("C"))
		time.Sleep(DefaultFastPoll + DefaultSettle)
		synctest.Wait()
		require.Equal(t, "C", r.held())
		require.Equal(t, 1, r.log.count("can't watch the grant file"))
	})
}

func TestAFileThatIsWrittenIsNotUsedBeforeItSettles(t *testing.T) {
	inBubble(t, func(r *rig, _ *clock.Fake) {
		r.write(endless("A")).run()
		// An unknown alg, so that nothing but the second reading can tell that
		// the file is cut short.
		whole := claimSet{"jti": "B"}.signed("ML-DSA-44", 600)
		put(t, r.path, whole[:len(whole)-400])
		time.Sleep(DefaultFastPoll + DefaultSettle/2)
		require.Equal(t, "A", r.held())
		put(t, r.path, whole[:len(whole)-200])
		time.Sleep(DefaultSettle)
		require.Equal(t, "A", r.held())
		put(t, r.path, whole)
		time.Sleep(2 * DefaultSettle)
		synctest.Wait()
		require.Equal(t, whole, r.Current().Grant.Token.Reveal())
	})
}

func TestAFileThatNeverSettlesIsAProblem(t *testing.T) {
	inBubble(t, func(r *rig, _ *clock.Fake) {
		r.write(endless("A")).run()
		n := 0
		r.onOpen(func() error {
			n++
			put(t, r.path, endless("A")+string(rune('a'+n%20)))
			return nil
		})
		time.Sleep(DefaultFastPoll + (maxReadings+1)*DefaultSettle)
		synctest.Wait()
		require.Equal(t, "A", r.held())
		require.Contains(t, r.Current().Problem, "keeps changing")
	})
}

func TestUnreadableIsNotGone(t *testing.T) {
	for _, errno := range []syscall.Errno{syscall.EACCES, syscall.EIO, syscall.ESTALE} {
		t.Run(errno.Error(), func(t *testing.T) {
			inBubble(t, func(r *rig, _ *clock.Fake) {
				r.write(endless("A")).run()
				r.onOpen(func() error { return errno })
				time.Sleep(5 * time.Minute)
				require.Equal(t, Usable, r.Current().State)
				require.Contains(t, r.Current().Problem, "last good token")
				require.Equal(t, 1, r.log.count("problem with the grant file"), "600 polls, one line")
				r.onOpen(nil)
				time.Sleep(time.Minute)
				require.Empty(t, r.Current().Problem)
			})
		})
	}
}

func TestRunDeliversTheExpiryOnTime(t *testing.T) {
	inBubble(t, func(r *rig, c *clock.Fake) {
		now := c.Now()
		r.write(claimSet{"jti": "A", "iat": now.Unix(), "exp": now.Add(6 * time.Minute).Unix()}.token()).run()
		require.Equal(t, Usable, (<-r.changes).State)
		s := <-r.changes
		require.Equal(t, Expired, s.State)
		require.Equal(t, 6*time.Minute, c.Now().Sub(now))
		require.Equal(t, "A", s.Grant.Claims.TokenID)
		require.Equal(t, 3, r.log.count(nearExpiry))
	})
}

func TestCurrentKnowsTheExpiryBeforeAnyTimer(t *testing.T) {
	inBubble(t, func(r *rig, c *clock.Fake) {
		now := c.Now()
		r.write(claimSet{"jti": "A", "iat": now.Unix(), "exp": now.Add(time.Hour).Unix()}.token()).run()
		<-r.changes
		c.Suspend(time.Hour)
		require.Equal(t, Expired, r.Current().State, "the machine has just woken up")
		require.Contains(t, r.Current().Problem, "has passed")
		r.quiet()

		woken := c.Boot()
		require.Equal(t, Expired, (<-r.changes).State)
		require.LessOrEqual(t, c.Boot()-woken, DefaultPoll)
	})
}

// A network file system that hangs must not keep the token from expiring, a
// Reread from ending, or Run from stopping.
func TestAHungFileSystemStopsNothingElse(t *testing.T) {
	inBubble(t, func(r *rig, c *clock.Fake) {
		now := c.Now()
		r.write(claimSet{"jti": "A", "iat": now.Unix(), "exp": now.Add(time.Hour).Unix()}.token()).run()
		<-r.changes
		answer := make(chan struct{})
		r.onOpen(func() error {
			<-answer
			return nil
		})
		ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
		defer cancel()
		time.Sleep(time.Second)
		s, err := r.Reread(ctx)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, Usable, s.State)
		c.Suspend(50 * time.Minute) // no timer notices
		require.Equal(t, Expired, (<-r.changes).State)
		require.Equal(t, time.Hour, c.Now().Sub(now))

		stopping := time.Now()
		r.stop()
		require.Equal(t, stopWait, time.Since(stopping))
		close(answer)
	})
}

func TestRereadSetsTheTimersOfRun(t *testing.T) {
	inBubble(t, func(r *rig, c *clock.Fake) {
		r.opts.Poll, r.opts.FastPoll = 24*time.Hour, 24*time.Hour
		r.write(endless("A")).run()
		<-r.changes
		exp := c.Now().Truncate(time.Second).Add(time.Minute)
		r.write(claimSet{"jti": "B", "exp": exp.Unix()}.token())
		_, err := r.Reread(context.Background())
		require.NoError(t, err)
		require.Equal(t, Usable, (<-r.changes).State)
		require.Equal(t, Expired, (<-r.changes).State)
		require.Zero(t, c.Now().Sub(exp))

		require.NoError(t, os.Remove(r.path))
		_, err = r.Reread(context.Background())
		require.NoError(t, err)
		removed := time.Now()
		require.Equal(t, Withdrawn, (<-r.changes).State)
		require.Equal(t, DefaultGoneAfter, time.Since(removed))
	})
}

func TestRunStopsWhileTheFileSettles(t *testing.T) {
	inBubble(t, func(r *rig, _ *clock.Fake) {
		r.write(endless("A")).run()
		r.write(endless("B"))
		time.Sleep(DefaultFastPoll + DefaultSettle/2)
		stopping := time.Now()
		r.stop()
		require.Zero(t, time.Since(stopping))
		require.Equal(t, "A", r.held())
	})
}

func TestLoadCostsNoTimeForAnOldFile(t *testing.T) {
	// A bubble's clock is set to the file's, to tell how old it is.
	tests := []struct {
		name string
		age  time.Duration
		want time.Duration
	}{
		{"just written", 0, DefaultSettle},
		{"of the future", -time.Hour, DefaultSettle},
		{"40 ms old", 40 * time.Millisecond, 60 * time.Millisecond},
		{"1 ns too young", DefaultSettle - 1, 1},
		{"old enough", DefaultSettle, 0},
		{"a year old", 365 * 24 * time.Hour, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, func(r *rig, c *clock.Fake) {
				r.write(endless("A"))
				info, err := os.Stat(r.path)
				require.NoError(t, err)
				changed := time.Unix(info.Sys().(*syscall.Stat_t).Ctim.Unix())
				c.Step(changed.Add(tt.age).Sub(c.Now()))

				began := time.Now()
				require.NoError(t, r.Load(context.Background()))
				require.Equal(t, tt.want, time.Since(began))
				require.Equal(t, "A", r.held())
				require.Equal(t, Usable, (<-r.changes).State)
			})
		})
	}
}

func TestLoadOfWhatIsNoTokenCostsNoTime(t *testing.T) {
	for name, make := range map[string]func(t *testing.T, path string){
		"nothing":      func(*testing.T, string) {},
		"a directory":  func(t *testing.T, p string) { mkdir(t, p) },
		"a named pipe": func(t *testing.T, p string) { require.NoError(t, syscall.Mkfifo(p, 0o600)) },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(r *rig, _ *clock.Fake) {
				make(t, r.path)
				began := time.Now()
				require.NoError(t, r.Load(context.Background()))
				require.Zero(t, time.Since(began))
				require.Equal(t, Absent, r.Current().State)
				require.NotEmpty(t, r.Current().Problem)
				r.quiet()
			})
		})
	}
}

func TestLoadEndsWithItsContext(t *testing.T) {
	inBubble(t, func(r *rig, _ *clock.Fake) {
		r.write(endless("A"))
		ctx, cancel := context.WithCancelCause(context.Background())
		stopped := errors.New("stopped")
		cancel(stopped)
		require.ErrorIs(t, r.Load(ctx), stopped)
		synctest.Wait()
		require.Equal(t, Absent, r.Current().State)
	})
}

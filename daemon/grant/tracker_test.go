package grant

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/grantexd/grantexd/upstream/clock"
)

// rules is a tracker in virtual time.
type rules struct {
	*tracker
	t     *testing.T
	clock *clock.Fake
	log   *lockedBuffer
}

func newRules(t *testing.T) *rules {
	c, log := clock.NewFake(), &lockedBuffer{}
	return &rules{t: t, clock: c, log: log, tracker: &tracker{
		path: "/g", goneAfter: DefaultGoneAfter, clock: c, log: log.logger(),
	}}
}

// lasting is a reading of a token that was issued now and lives for life.
func (r *rules) lasting(id string, life time.Duration) reading {
	now := r.clock.Now()
	c := standardClaims(now, 0).with("jti", id).with("iat", now.Unix()).with("exp", now.Add(life).Unix())
	return r.of(c)
}

func (r *rules) of(c claimSet) reading {
	g, err := Parse([]byte(c.token()))
	require.NoError(r.t, err)
	return reading{kind: present, grant: g}
}

func (r *rules) is(state State, id, problem string) {
	r.t.Helper()
	require.Equal(r.t, state.String(), r.snap.State.String(), r.snap.Problem)
	if id == "" {
		require.Nil(r.t, r.snap.Grant)
	} else {
		require.NotNil(r.t, r.snap.Grant)
		require.Equal(r.t, id, r.snap.Grant.Claims.TokenID)
	}
	if problem == "" {
		require.Empty(r.t, r.snap.Problem)
	} else {
		require.Contains(r.t, r.snap.Problem, problem)
	}
}

var (
	noFile  = reading{kind: missing, fault: "does not exist"}
	garbage = reading{kind: faulty, fault: "not a JWT", content: [32]byte{1}}
	denied  = reading{kind: faulty, fault: "permission denied"}
)

// A step of a timeline: after a time the file is read (or only the clock is
// looked at), and this is what must hold.
type step struct {
	after   time.Duration
	read    string // see TestTimelines; "" for a tick alone
	state   State
	id      string
	problem string
}

const s = time.Second // for the timelines

// timelines are sequences of readings, with a token A that lives for an hour, B for
// two, one that is expired, and one that never is.
var timelines = []struct {
	name  string
	steps []step
}{
	{"nothing was ever there", []step{
		{0, "none", Absent, "", "does not exist"},
		{time.Hour, "none", Absent, "", "does not exist"},
		{0, "garbage", Absent, "", "not a JWT"},
		{0, "denied", Absent, "", "permission denied"},
		{0, "B", Usable, "B", ""},
	}},
	{"garbage never replaces a good token", []step{
		{0, "A", Usable, "A", ""},
		{s, "garbage", Usable, "A", "last good token"},
		{s, "denied", Usable, "A", "last good token"},
		{s, "A", Usable, "A", ""},
		{s, "garbage", Usable, "A", "not a JWT"},
		{s, "B", Usable, "B", ""},
	}},
	{"the kept token still expires", []step{
		{0, "A", Usable, "A", ""},
		{s, "garbage", Usable, "A", "not a JWT"},
		{time.Hour - s - 1, "", Usable, "A", "last good token"},
		{1, "", Expired, "A", "not a JWT"},
		{s, "B", Usable, "B", ""},
	}},
	{"withdrawn after two seconds, not before", []step{
		{0, "A", Usable, "A", ""},
		{s, "none", Usable, "A", ""},
		{2*s - 1, "none", Usable, "A", ""},
		{1, "none", Withdrawn, "", "does not exist"},
		{time.Hour, "none", Withdrawn, "", "does not exist"},
		{s, "A", Expired, "A", "has passed"},
	}},
	{"time alone does not withdraw", []step{
		{0, "A", Usable, "A", ""},
		{s, "none", Usable, "A", ""},
		{5 * s, "", Usable, "A", ""}, // the file may be back: it must be read
		{0, "A", Usable, "A", ""},
		{s, "none", Usable, "A", ""},
		{2*s - 1, "none", Usable, "A", ""},
	}},
	{"a file that comes back in time was never gone", []step{
		{0, "A", Usable, "A", ""},
		{s, "none", Usable, "A", ""},
		{s, "garbage", Usable, "A", "not a JWT"},
		{s, "none", Usable, "A", "not a JWT"},
		{s, "denied", Usable, "A", "permission denied"},
		{s, "none", Usable, "A", "permission denied"},
		{s, "B", Usable, "B", ""},
	}},
	{"garbage after a withdrawal brings nothing back", []step{
		{0, "A", Usable, "A", ""},
		{0, "none", Usable, "A", ""},
		{2 * s, "none", Withdrawn, "", "does not exist"},
		{s, "garbage", Withdrawn, "", "not a JWT"},
		{s, "denied", Withdrawn, "", "permission denied"},
		{s, "A", Usable, "A", ""},
	}},
	{"unreadable is not gone", []step{
		{0, "A", Usable, "A", ""},
		{s, "denied", Usable, "A", "permission denied"},
		{30 * s, "denied", Usable, "A", "permission denied"},
	}},
	{"expires to the nanosecond", []step{
		{0, "A", Usable, "A", ""},
		{time.Hour - 1, "", Usable, "A", ""},
		{1, "", Expired, "A", "has passed"},
		{s, "A", Expired, "A", "has passed"},
		{s, "none", Expired, "A", "has passed"},
		{2 * s, "none", Withdrawn, "", "does not exist"},
	}},
	{"an expired token never replaces a living one", []step{
		{0, "A", Usable, "A", ""},
		{s, "old", Usable, "A", "2000-01-01T00:00:00Z, has passed"},
		{time.Hour - s, "", Expired, "A", "has passed"},
		{s, "old", Expired, "old", "has passed"},
	}},
	{"an expired token is all there is", []step{
		{0, "old", Expired, "old", "has passed"},
		{s, "A", Usable, "A", ""},
	}},
	{"a token without an expiry", []step{
		{0, "endless", Usable, "endless", ""},
		{100 * 365 * 24 * time.Hour, "", Usable, "endless", ""},
	}},
	{"a warning about the mode keeps nothing back", []step{
		{0, "A open", Usable, "A", "other users"},
		{s, "B open", Usable, "B", "other users"},
		{s, "B", Usable, "B", ""},
	}},
}

func TestTimelines(t *testing.T) {
	for _, tt := range timelines {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRules(t)
				readings := map[string]reading{
					"none": noFile, "garbage": garbage, "denied": denied,
					"A": r.lasting("A", time.Hour), "B": r.lasting("B", 2*time.Hour),
					"old": r.lasting("old", 0), "endless": r.of(claimSet{"jti": "endless"}),
				}
				for _, id := range []string{"A", "B"} {
					open := readings[id]
					open.exposure = "other users can read it"
					readings[id+" open"] = open
				}
				for i, s := range tt.steps {
					time.Sleep(s.after)
					if s.read == "" {
						r.tick()
					} else {
						r.observe(readings[s.read])
					}
					t.Logf("step %d", i)
					r.is(s.state, s.id, s.problem)
				}
			})
		})
	}
}

func TestStrictRefusesWhatOthersCanRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRules(t)
		r.strict = true
		a, b := r.lasting("A", time.Hour), r.lasting("B", time.Hour)
		openA, openB := a, b
		openA.exposure, openB.exposure = "other users can read it", "other users can read it"

		r.observe(openA)
		r.is(Absent, "", "refused, since other users can read it")
		r.observe(a)
		r.is(Usable, "A", "")
		r.observe(openB)
		r.is(Usable, "A", "refused")
		r.observe(openA)
		r.is(Withdrawn, "", "refused")
		r.observe(openB)
		r.is(Withdrawn, "", "refused")
		r.observe(b)
		r.is(Usable, "B", "")
	})
}

// clockMoves are what can happen to clocks while a token of an hour is in use.
var clockMoves = []struct {
	name string
	run  func(r *rules, a reading)
}{
	{"suspended past the expiry", func(r *rules, _ reading) {
		r.clock.Suspend(time.Hour)
		r.tick()
		r.is(Expired, "A", "has passed")
	}},
	{"suspended until just before it", func(r *rules, _ reading) {
		r.clock.Suspend(time.Hour - 1)
		r.tick()
		r.is(Usable, "A", "")
	}},
	{"set back, the boot clock decides", func(r *rules, a reading) {
		r.clock.Step(-10 * time.Hour)
		time.Sleep(time.Hour - 1)
		r.observe(a)
		r.is(Usable, "A", "")
		time.Sleep(time.Nanosecond)
		r.tick()
		r.is(Expired, "A", "has passed")
	}},
	{"set back, and withdrawn for a while", func(r *rules, a reading) {
		r.clock.Step(-10 * time.Hour)
		r.observe(noFile)
		time.Sleep(2 * time.Second)
		r.observe(noFile)
		r.is(Withdrawn, "", "does not exist")
		time.Sleep(time.Hour)
		r.observe(a)
		r.is(Expired, "A", "has passed")
	}},
	{"set forward past the expiry", func(r *rules, _ reading) {
		r.clock.Step(time.Hour)
		r.tick()
		r.is(Expired, "A", "has passed")
	}},
	{"set forward by mistake and right again", func(r *rules, _ reading) {
		r.clock.Step(time.Hour)
		r.tick()
		r.is(Expired, "A", "has passed")
		r.clock.Step(-time.Hour)
		r.tick()
		r.is(Usable, "A", "")
	}},
	{"gone is measured in boot time", func(r *rules, _ reading) {
		r.observe(noFile)
		r.clock.Step(time.Minute)
		r.observe(noFile)
		r.is(Usable, "A", "")
		r.clock.Suspend(2 * time.Second)
		r.observe(noFile)
		r.is(Withdrawn, "", "does not exist")
	}},
}

func TestExpiryWhenClocksMove(t *testing.T) {
	for _, tt := range clockMoves {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRules(t)
				a := r.lasting("A", time.Hour)
				r.observe(a)
				r.is(Usable, "A", "")
				tt.run(r, a)
			})
		})
	}
}

func TestTokenLoadedWithAClockThatWasAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRules(t)
		a := r.lasting("A", time.Hour)
		r.clock.Step(2 * time.Hour)
		r.observe(a)
		r.is(Expired, "A", "has passed")
		r.clock.Step(-2 * time.Hour)
		r.observe(a)
		r.is(Usable, "A", "")
		r.clock.Step(-2 * time.Hour)
		time.Sleep(time.Hour - 1)
		r.tick()
		r.is(Usable, "A", "")
		time.Sleep(time.Nanosecond)
		r.tick()
		r.is(Expired, "A", "has passed") // in boot time, since it was found alive
	})
}

const nearExpiry = "nears its expiry"

func TestWarningsBeforeExpiry(t *testing.T) {
	tests := []struct {
		name string
		life time.Duration
		at   []time.Duration // ages at which a warning must come, and no other
	}{
		{"a day", 24 * time.Hour, []time.Duration{18 * time.Hour, 21*time.Hour + 36*time.Minute, 23*time.Hour + 55*time.Minute}},
		{"an hour", time.Hour, []time.Duration{45 * time.Minute, 54 * time.Minute, 55 * time.Minute}},
		{"half an hour: a tenth is later than five minutes", 30 * time.Minute, []time.Duration{22*time.Minute + 30*time.Second, 25 * time.Minute, 27 * time.Minute}},
		{"twenty minutes: a quarter is five minutes", 20 * time.Minute, []time.Duration{15 * time.Minute, 18 * time.Minute}},
		{"four minutes: near from the start", 4 * time.Minute, []time.Duration{0, 3 * time.Minute, 3*time.Minute + 36*time.Second}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRules(t)
				a := r.lasting("A", tt.life)
				r.observe(a)
				var age time.Duration
				for i, at := range tt.at {
					if at > 0 {
						require.Equal(t, at-age, r.untilTick(), "the timer must be set for the mark")
						time.Sleep(at - age - 1)
						r.observe(a) // a poll is no reason to warn again
						require.Equal(t, i, r.log.count(nearExpiry), "just before %s", at)
						time.Sleep(time.Nanosecond)
						r.tick()
					}
					age = at
					require.Equal(t, i+1, r.log.count(nearExpiry), "at %s", at)
				}
				require.Equal(t, tt.life-age, r.untilTick(), "the timer must be set for the expiry")
				time.Sleep(tt.life - age)
				r.tick()
				r.is(Expired, "A", "has passed")
				require.Equal(t, len(tt.at), r.log.count(nearExpiry))
			})
		})
	}
}

func TestWarningsComeOnceForEachToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRules(t)
		now := r.clock.Now()
		// 100 minutes of life of which 8 are left: a quarter and a tenth are past.
		late := r.of(standardClaims(now, 0).with("iat", now.Add(-92*time.Minute).Unix()).with("exp", now.Add(8*time.Minute).Unix()))
		r.observe(late)
		require.Equal(t, 1, r.log.count(nearExpiry), "one warning for what was missed")
		require.Equal(t, 1, r.log.count("left=8m0s"))

		r.observe(noFile)
		time.Sleep(2 * time.Second)
		r.observe(noFile)
		r.observe(late)
		require.Equal(t, 1, r.log.count(nearExpiry), "a token that comes back is the same")

		r.clock.Suspend(4 * time.Minute)
		r.tick()
		require.Equal(t, 2, r.log.count(nearExpiry), "the last mark passed while suspended")

		r.observe(r.lasting("next", 4*time.Minute))
		require.Equal(t, 3, r.log.count(nearExpiry), "another token has warnings of its own")
		r.observe(r.lasting("day", 24*time.Hour))
		r.observe(r.of(claimSet{"jti": "endless"}))
		time.Sleep(25 * time.Hour)
		r.tick()
		require.Equal(t, 3, r.log.count(nearExpiry))
	})
}

func TestLifeWithoutAnIssueTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRules(t)
		exp := r.clock.Now().Add(100 * time.Minute).Unix()
		for _, c := range []claimSet{
			{"jti": "no iat", "exp": exp},
			{"jti": "iat after exp", "exp": exp, "iat": exp + 1},
		} {
			r.observe(r.of(c))
			require.Equal(t, 75*time.Minute, r.untilTick(), "life counts from when the token was first seen")
		}
		r.observe(r.of(claimSet{"jti": "far", "exp": int64(maxDate)}))
		r.is(Usable, "far", "")
		require.Positive(t, r.untilTick(), "a life of 8,000 years must not overflow")
	})
}

func TestProblemsAreLoggedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRules(t)
		a := r.lasting("A", time.Hour)
		r.observe(a)
		for range 10 {
			r.observe(garbage)
			r.observe(denied)
			r.tick()
		}
		require.Equal(t, 1, r.log.count("not a JWT"), "even if it alternates with another one")
		require.Equal(t, 1, r.log.count("permission denied"))
		require.Zero(t, r.log.count("in order again"))

		r.observe(a)
		r.observe(a)
		require.Equal(t, 1, r.log.count("in order again"))
		r.observe(garbage)
		require.Equal(t, 2, r.log.count("not a JWT"), "after a recovery it is news")

		open := a
		open.exposure = "other users can read it"
		for range 10 {
			r.observe(open)
		}
		require.Equal(t, 1, r.log.count("other users can read it"))
	})
}

func TestReportedProblemsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRules(t)
		for i := range 10 * maxReported {
			r.observe(reading{kind: faulty, fault: time.Duration(i).String()})
		}
		require.LessOrEqual(t, len(r.reported), maxReported)
	})
}

func TestWithdrawalIsTimed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRules(t)
		r.observe(noFile)
		require.Greater(t, r.untilWithdrawal(), time.Hour, "nothing to withdraw")
		a := r.lasting("A", time.Hour)
		r.observe(a)
		require.Greater(t, r.untilWithdrawal(), time.Hour, "nothing is gone")
		r.observe(noFile)
		require.Equal(t, 2*time.Second, r.untilWithdrawal())
		time.Sleep(1500 * time.Millisecond)
		require.Equal(t, 500*time.Millisecond, r.untilWithdrawal())
		time.Sleep(500 * time.Millisecond)
		r.observe(noFile)
		require.Greater(t, r.untilWithdrawal(), time.Hour)
	})
}

package grant

import (
	"context"
	"log/slog"
	"math"
	"time"

	"github.com/grantexd/grantexd/upstream/clock"
)

// tracker decides what a reading of the file means for the grant in use. It is
// the rules alone: it reads no file and starts no timer. It is not safe for
// concurrent use.
type tracker struct {
	path      string
	strict    bool
	goneAfter time.Duration
	clock     clock.Clock
	log       *slog.Logger

	snap Snapshot
	life life // of the token that was last in use

	gone      bool          // the last reading found no file
	goneSince time.Duration // boot time of the first such reading

	fault   string // what is wrong with the file, "" if nothing is
	keeping bool   // the token in use is not the one in the file

	// reported are the problems that were logged since the file was last in
	// order, so that a poll doesn't log them again.
	reported map[string]bool
}

// maxReported bounds tracker.reported for a file that is broken in ever new ways.
const maxReported = 64

// observe takes in a settled reading of the file.
func (t *tracker) observe(r reading) {
	before := t.snap
	if r.kind != missing {
		t.gone = false
	}
	switch r.kind {
	case missing:
		t.observeMissing(r)
	case faulty:
		t.fault, t.keeping = r.fault, true
	case present:
		t.observePresent(r)
	}
	t.refresh(before)
}

// tick takes in that time has passed.
func (t *tracker) tick() { t.refresh(t.snap) }

// observeMissing withdraws the grant once the file has been gone for goneAfter:
// a writer that deletes and creates it leaves a gap.
func (t *tracker) observeMissing(r reading) {
	if !t.gone {
		t.gone, t.goneSince = true, t.clock.Boot()
	}
	if t.held() && t.untilWithdrawal() > 0 {
		return
	}
	t.fault, t.keeping = r.fault, false
	t.withdraw()
}

// observePresent takes the token into use, unless it is refused or expired.
func (t *tracker) observePresent(r reading) {
	wall, boot := t.clock.Now(), t.clock.Boot()
	same := t.held() && t.snap.Grant.Hash == r.grant.Hash
	if t.strict && r.exposure != "" {
		t.fault, t.keeping = "refused, since "+r.exposure, !same
		if same {
			t.withdraw()
		}
		return
	}
	l := t.life
	if l.token != r.grant.Hash {
		l = newLife(r.grant, wall, boot)
	}
	if !same && t.held() && !t.life.expired(wall, boot) && l.expired(wall, boot) {
		t.fault, t.keeping = expiredFault(l), true
		return
	}
	t.fault, t.keeping, t.life = r.exposure, false, l
	if !same {
		t.snap.Grant, t.snap.LoadedAt = r.grant, wall
	}
}

// held reports whether there is a token, expired or not.
func (t *tracker) held() bool { return t.snap.Grant != nil }

// withdraw forgets the token.
func (t *tracker) withdraw() {
	if t.held() {
		t.snap = Snapshot{State: Withdrawn}
	}
}

// refresh brings the snapshot up to date with the clocks and logs what changed
// since before.
func (t *tracker) refresh(before Snapshot) {
	if t.held() {
		wall, boot := t.clock.Now(), t.clock.Boot()
		t.life.anchor(wall, boot)
		t.snap.State = Usable
		if t.life.expired(wall, boot) {
			t.snap.State = Expired
		}
	}
	t.snap.Problem = t.problem()
	t.report(before)
	if t.snap.State == Usable {
		t.warn()
	}
}

// problem puts together Snapshot.Problem.
func (t *tracker) problem() string {
	switch {
	case t.fault == "" && t.snap.State == Expired:
		return t.path + ": " + expiredFault(t.life)
	case t.fault == "":
		return ""
	case t.keeping && t.snap.State == Usable:
		return t.path + ": " + t.fault + " (" + LastGoodStays + ")"
	}
	return t.path + ": " + t.fault
}

// expiredFault says when the token expired, in a way that doesn't change from one
// poll to the next.
func expiredFault(l life) string {
	return "the token's expiry, " + l.expiresAt.Format(time.RFC3339) + ", has passed: put a new token there"
}

// changed reports whether a grant came, went or changed between two snapshots.
// Words alone are no change.
func changed(a, b Snapshot) bool {
	if a.State != b.State || (a.Grant == nil) != (b.Grant == nil) {
		return true
	}
	return a.Grant != nil && a.Grant.Hash != b.Grant.Hash
}

// report logs what changed since before, and each problem once.
func (t *tracker) report(before Snapshot) {
	now := t.snap
	if now.Problem == "" {
		clear(t.reported)
	}
	switch {
	case changed(before, now):
		level := slog.LevelWarn
		if now.State == Usable {
			level = slog.LevelInfo
		}
		attrs := []slog.Attr{slog.String("state", now.State.String())}
		if now.Grant != nil {
			attrs = append(attrs, slog.String("grant_id", now.Grant.Claims.GrantID),
				slog.Time("expires_at", now.Grant.Claims.ExpiresAt))
		}
		if now.Problem != "" {
			level = slog.LevelWarn
			attrs = append(attrs, slog.String("problem", now.Problem))
			t.markReported(now.Problem)
		}
		t.log.LogAttrs(context.Background(), level, "grant changed", attrs...)
	case now.Problem == "" && before.Problem != "":
		t.log.Info("grant file is in order again", "file", t.path)
	case now.Problem != "" && !t.reported[now.Problem]:
		t.markReported(now.Problem)
		t.log.Warn("problem with the grant file", "problem", now.Problem, "state", now.State.String())
	}
}

func (t *tracker) markReported(problem string) {
	if t.reported == nil || len(t.reported) >= maxReported {
		t.reported = make(map[string]bool)
	}
	t.reported[problem] = true
}

// warn logs that the token in use nears its expiry, once for each mark; marks
// that were passed together, as before the start or in a suspended machine, get
// one warning.
func (t *tracker) warn() {
	left := t.life.left(t.clock.Now(), t.clock.Boot())
	passed := t.life.passed(left)
	if passed <= t.life.warned {
		return
	}
	t.life.warned = passed
	t.log.Warn("grant token nears its expiry: put a new one into the grant file",
		"file", t.path, "left", left.Round(time.Second), "expires_at", t.life.expiresAt)
}

// untilTick returns the time until tick has something to do.
func (t *tracker) untilTick() time.Duration {
	if t.snap.State != Usable {
		return math.MaxInt64
	}
	return t.life.next(t.life.left(t.clock.Now(), t.clock.Boot()))
}

// untilWithdrawal returns the time until a file that stays gone means that the
// grant is withdrawn. The file must be read again then, for it may be back.
func (t *tracker) untilWithdrawal() time.Duration {
	if !t.gone || !t.held() {
		return math.MaxInt64
	}
	return t.goneAfter - (t.clock.Boot() - t.goneSince)
}

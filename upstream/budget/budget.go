package budget

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/grantexd/grantexd/upstream/clock"
)

// Options describe a budget. The zero value is the vault's documented limit, kept
// in memory only.
type Options struct {
	// Path is the ledger file. Several instances may share one; the directory
	// must exist. "" keeps the window in memory only: a restart forgets it.
	Path string
	// Limit, Window, Margin, Stall, Reserve and MaxBlock are described at
	// [Limits]. Zero means their defaults.
	Limit                 int
	Window, Margin, Stall time.Duration
	Reserve               int
	MaxBlock              time.Duration
	// Clock tells the time. Nil means the machine's.
	Clock clock.Clock
	// BootID returns the id of this boot, or "" if it is not known. Nil means
	// clock.BootID.
	BootID func() string
	// Logger is told when the ledger can't be used, and when it can again. Nil
	// means nobody is.
	Logger *slog.Logger
}

// Budget keeps departures below a limit. It is safe for concurrent use. Make one
// with [New].
type Budget struct {
	clock    clock.Clock
	bootID   string
	logger   *slog.Logger
	ledger   ledger // nil: memory only
	instance string // begins the ids of our departures

	// mu guards the rest. No hook of a departure is called with it held, and
	// nothing that waits, except for a locked ledger, a tenth of a second at
	// most.
	mu     sync.Mutex
	limits Limits
	// state is the window as the ledger had it last, with our own departures,
	// of which only we know everything.
	state window
	// unsaved says that state knows more than the ledger.
	unsaved bool
	pacing  pacing
	queue   queue
	count   int // of our departures, for their ids
	// due is when it is worth it to serve the queue again.
	due time.Duration
	// garbled is when the ledger was first seen unreadable, if it is.
	garbled *time.Duration
	notes   []note
}

// note is a log line that waits until the mutex is free.
type note struct {
	level   slog.Level
	message string
	attrs   []slog.Attr
}

// New returns a budget. It reads the ledger, or makes it; one that can't be used
// is no error, but begins the paced mode. Its errors say which of the options is
// out of range.
func New(o Options) (*Budget, error) {
	limits, err := Limits{o.Limit, o.Window, o.Margin, o.Stall, o.Reserve, o.MaxBlock}.withDefaults()
	if err != nil {
		return nil, err
	}
	b := &Budget{clock: o.Clock, logger: o.Logger, instance: newInstance(), limits: limits}
	if b.clock == nil {
		b.clock = clock.System{}
	}
	if b.logger == nil {
		b.logger = slog.New(slog.DiscardHandler)
	}
	bootID := o.BootID
	if bootID == nil {
		bootID = clock.BootID
	}
	b.bootID = bootID()
	if o.Path != "" {
		b.ledger = ledgerFile{o.Path}
	}
	b.do(b.dispatch)
	return b, nil
}

// newInstance returns a name which no other instance has, nor this one after a
// restart.
func newInstance() string {
	var name [6]byte
	_, _ = rand.Read(name[:]) // never fails
	return hex.EncodeToString(name[:])
}

// SetLimits changes the limits from now on. Departures that were made before
// keep their slots as long as they had to, or longer if the window grew. Its
// errors are those of [New], and change nothing.
func (b *Budget) SetLimits(l Limits) error {
	l, err := l.withDefaults()
	if err != nil {
		return err
	}
	b.do(func() {
		if grown := l.hold() - b.limits.hold(); grown > 0 {
			for i := range b.state.slots {
				b.state.slots[i].release += grown
			}
			b.unsaved = true
		}
		b.limits = l
		b.dispatch()
	})
	return nil
}

// do calls f with the mutex held, and logs afterwards what f noted.
func (b *Budget) do(f func()) {
	for _, n := range b.locked(f) {
		b.logger.LogAttrs(context.Background(), n.level, n.message, n.attrs...) //nolint:sloglint // every call of note has a constant message
	}
}

// locked runs f under the mutex, which even a bug in f must not keep, and returns
// what is to be logged of it.
func (b *Budget) locked(f func()) []note {
	b.mu.Lock()
	defer b.mu.Unlock()
	f()
	notes := b.notes
	b.notes = nil
	return notes
}

func (b *Budget) note(level slog.Level, message string, attrs ...slog.Attr) {
	b.notes = append(b.notes, note{level, message, attrs})
}

// dispatch brings memory and ledger together, lets leave whoever may, and tells
// the others how long it takes.
func (b *Budget) dispatch() {
	now := b.clock.Boot()
	b.state.prune(now)
	if b.ledger == nil {
		b.serveFromMemory(now)
	} else if err := b.consult(); err != nil {
		if b.pacing.start(err, now, b.limits) {
			b.note(slog.LevelWarn, "budget ledger can't be used, departures are paced",
				slog.String("error", err.Error()), slog.String("advice", advice(err)),
				slog.Duration("interval", b.limits.interval()))
		}
		b.serveFromMemory(now)
	}
	b.due = now + pollEvery
	b.estimate(now)
}

// serveFromMemory lets leave whoever may, by what this process knows alone.
func (b *Budget) serveFromMemory(now time.Duration) {
	w := b.state.clone()
	served := b.serve(&w, now, b.pacing.on())
	b.state = w
	b.unsaved = b.unsaved || len(served) > 0
	b.deliver(served, now)
}

// consult does the same with the ledger locked. Unless the ledger took what had
// to be written, nothing has changed.
func (b *Budget) consult() error {
	return b.ledger.update(!b.pacing.on(), func(content []byte, created bool, save func([]byte) error) error {
		m := moment{bootID: b.bootID, boot: b.clock.Boot(), wall: b.clock.Now()}
		w, changed := b.merge(content, created, m)
		put := func() error {
			content, err := encode(&w, m)
			if err != nil {
				return err
			}
			return save(content)
		}
		if b.pacing.on() {
			// That it can be read says nothing about a disk that is full.
			if err := put(); err != nil {
				return err
			}
			changed = false
		}
		served := b.serve(&w, m.boot, false)
		if changed || len(served) > 0 {
			if err := put(); err != nil {
				return err
			}
		}
		b.state, b.unsaved, b.garbled = w, false, nil
		if b.pacing.stop() {
			b.note(slog.LevelInfo, "budget ledger can be used again")
		}
		b.deliver(served, m.boot)
		return nil
	})
}

// merge returns what the ledger and this process know together, and whether the
// ledger has to learn of it.
func (b *Budget) merge(content []byte, created bool, m moment) (w window, changed bool) {
	r, err := decode(content)
	switch {
	case created:
		w, changed = b.state.clone(), true // somebody removed it: we remember
	case err != nil:
		w, changed = b.garbage(err, m.boot), true
	default:
		w, changed = r.window(m, b.limits)
		b.garbled = nil
	}
	theirs, known := b.others(w.slots)
	for _, s := range b.state.slots {
		if s.own {
			theirs = append(theirs, s)
			changed = changed || !known[s.id]
		}
	}
	w.slots = theirs
	w.learned = newer(w.learned, b.state.learned)
	w.blocked = max(w.blocked, b.state.blocked)
	w.prune(m.boot)
	return w, changed || b.unsaved
}

// others returns the departures that are not ours, and the ids of those that are.
func (b *Budget) others(slots []slot) (theirs []slot, ours map[string]bool) {
	ours = make(map[string]bool)
	for _, s := range slots {
		if strings.HasPrefix(s.id, b.instance+"-") {
			ours[s.id] = true
		} else {
			theirs = append(theirs, s)
		}
	}
	return theirs, ours
}

// garbage is what an unreadable ledger stands for: a full one, since it was first
// seen so.
func (b *Budget) garbage(err error, now time.Duration) window {
	if b.garbled == nil {
		b.garbled = &now
		b.note(slog.LevelWarn, "budget ledger can't be read and counts as full",
			slog.String("error", err.Error()), slog.Duration("for", b.limits.hold()))
	}
	w := full(*b.garbled, b.limits)
	w.prune(now)
	return w
}

// serve gives a slot of w to everyone who may leave, in their order. It changes
// nothing but w.
func (b *Budget) serve(w *window, now time.Duration, paced bool) (served []*ticket) {
	if now < w.blocked || paced && now < b.pacing.next {
		return nil
	}
	for _, t := range b.queue.order() {
		free := w.free(now, b.limits.Limit)
		if free == 0 || paced && len(served) > 0 {
			break
		}
		if free >= b.limits.need(t.class, t.mayTakeLast) {
			w.take(b.slotID(len(served)), now, b.limits)
			served = append(served, t)
		}
	}
	return served
}

// slotID is the id of the next departure but n.
func (b *Budget) slotID(n int) string { return fmt.Sprintf("%s-%d", b.instance, b.count+n) }

// deliver tells those who were served.
func (b *Budget) deliver(served []*ticket, now time.Duration) {
	for _, t := range served {
		t.slot = b.slotID(0)
		b.count++
		b.queue.serve(t)
		b.pacing.departed(now, b.limits)
		t.poke()
	}
}

// estimate tells everyone in the queue when it will be served, as far as that has
// changed.
func (b *Budget) estimate(now time.Duration) {
	f := b.forecast(now)
	for _, t := range b.queue.order() {
		t.at = f.leave(b.limits.need(t.class, t.mayTakeLast))
		b.due = min(b.due, t.at)
		if t.news() {
			t.poke()
		}
	}
}

// forecast returns the forecast from now on, for an empty queue.
func (b *Budget) forecast(now time.Duration) *forecast {
	if b.pacing.on() {
		return newForecast(&b.state, now, b.pacing.next, b.limits.interval(), b.limits)
	}
	return newForecast(&b.state, now, 0, 0, b.limits)
}

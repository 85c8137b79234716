package grant

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fsnotify/fsnotify"
)

// maxReadings is how often a file that differs each time is read before that is
// a problem: for about a second.
const maxReadings = 10

// Watcher keeps the grant that a file holds. Make one with [New]; all methods
// are safe for concurrent use.
//
// What the storage of the file means for a rotation:
//
//   - A file on a local disk or a tmpfs, renamed over, written in place, or
//     deleted and created: used within a second.
//   - A Kubernetes Secret or projected volume: within a second of the kubelet's
//     ..data swap, which itself comes up to a minute or two after the update. A
//     subPath mount is never updated.
//   - A single file bind-mounted into a container: seen if it is written in
//     place. If it is replaced, the mount keeps the old file for ever; mount its
//     directory instead.
//   - NFS, SMB, 9p, FUSE and the shared folders of virtual machines: changes made
//     elsewhere send no events and are seen by the next poll.
//   - systemd credentials (LoadCredential=, SetCredential=): copied when the
//     service starts, so only a restart brings a new one.
//   - A secret of Docker Swarm or podman: fixed when the container starts.
type Watcher struct {
	opts   Options
	file   file
	notify func() (*fsnotify.Watcher, error) // tests replace it

	// turn is held by whoever reads the file, from the first reading until it is
	// observed, so that no older reading is observed after a newer one.
	turn chan struct{}
	// reread wakes Run up after a Reread, to set its timers anew.
	reread chan struct{}

	current atomic.Pointer[published]

	mu      sync.Mutex // guards tracker, queue and idle; never held in OnChange
	tracker tracker
	queue   []Snapshot    // changes not handed to OnChange yet, oldest first
	idle    chan struct{} // closed when OnChange has had all; nil if nobody hands over

	settled reading // the last reading that was observed; guarded by turn
}

// published is what Current answers from.
type published struct {
	snap Snapshot
	life life
	path string
}

// New returns a watcher. It neither reads the file nor starts anything: see
// [Watcher.Load] and [Watcher.Run]. It fails if the options are wrong.
func New(opts Options) (*Watcher, error) {
	if opts.Path == "" {
		return nil, errors.New("grant: no path of the grant file")
	}
	path, err := absolute(opts.Path)
	if err != nil {
		return nil, fmt.Errorf("grant: path of the grant file: %w", err)
	}
	if err := opts.setDefaults(); err != nil {
		return nil, err
	}
	w := &Watcher{
		opts:   opts,
		file:   file{path: path, clock: opts.Clock, open: openRegular},
		notify: fsnotify.NewWatcher,
		turn:   make(chan struct{}, 1),
		reread: make(chan struct{}, 1),
		tracker: tracker{
			path: path, strict: opts.Strict, goneAfter: opts.GoneAfter,
			clock: opts.Clock, log: opts.Logger,
		},
	}
	w.current.Store(&published{path: path})
	return w, nil
}

// absolute makes path absolute. Unlike filepath.Abs it doesn't clean it, which
// would make another file of "link/../grant".
func absolute(path string) (string, error) {
	if filepath.IsAbs(path) {
		return path, nil
	}
	dir, err := os.Getwd()
	return dir + "/" + path, err
}

// Current returns the state of the grant file. It never blocks, and it asks the
// clocks: an expired token is never called usable, even if the machine has just
// woken up and no timer has fired yet.
func (w *Watcher) Current() Snapshot {
	p := w.current.Load()
	snap := p.snap
	if snap.State == Usable && p.life.expired(w.opts.Clock.Now(), w.opts.Clock.Boot()) {
		snap.State = Expired
		if snap.Problem == "" {
			snap.Problem = p.path + ": " + expiredFault(p.life)
		}
	}
	return snap
}

// Load reads the file once, to be called before the first caller is served. A
// file that is missing or broken is no error; [Watcher.Current] tells. It fails
// if ctx ends, also while the file system hangs.
//
// It takes a file for finished that nobody has touched for as long as two
// readings lie apart, and so costs no time. Later the file is always read twice:
// then nobody waits for it, and a file server's clock need not be trusted.
func (w *Watcher) Load(ctx context.Context) error { return w.look(ctx, true) }

// Reread reads the file now, without waiting for an event or a poll, and returns
// what holds then. Any change was handed to OnChange before it returns. Call it
// when the vault has refused the token. It fails if ctx ends, also while the
// file system hangs; the snapshot is the current one even then.
//
// Hold no lock that OnChange needs.
func (w *Watcher) Reread(ctx context.Context) (Snapshot, error) {
	err := w.look(ctx, false)
	select {
	case w.reread <- struct{}{}:
	default: // Run has yet to take the last one
	}
	return w.Current(), err
}

// look reads the file, observes it, and sees to it that OnChange has had every
// change so far.
func (w *Watcher) look(ctx context.Context, trustAge bool) error {
	select {
	case w.turn <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	// A read on a hung network file system can't be interrupted. The goroutine
	// that is in it keeps the turn; whoever asked for it goes on.
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() { <-w.turn }()
		if r, ok := w.settle(ctx, trustAge); ok {
			w.settled = r
			w.update(func(t *tracker) { t.observe(r) })
		}
	}()
	select {
	case <-done:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return w.deliver(ctx)
}

// settle reads the file until two readings, Settle apart, agree. A reading like
// the one that was observed last needs no second one. ok is false if ctx ended.
func (w *Watcher) settle(ctx context.Context, trustAge bool) (r reading, ok bool) {
	r = w.file.read()
	for range maxReadings {
		if r.same(w.settled) || r.kind == missing || trustAge && w.aged(r) {
			return r, true
		}
		wait := w.opts.Settle
		if trustAge {
			wait -= r.age
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return r, false
		}
		last := r
		if r = w.file.read(); r.same(last) {
			return r, true
		}
	}
	return reading{kind: faulty, fault: "keeps changing: let its writer write elsewhere and rename it here"}, true
}

// aged reports whether r can't be of a file that is being written: it lay
// untouched for Settle, or it can't be read at all.
func (w *Watcher) aged(r reading) bool {
	return r.age >= w.opts.Settle || r.content == [len(r.content)]byte{}
}

// update lets f change the tracker, publishes the outcome, and queues it for
// OnChange if it is a change.
func (w *Watcher) update(f func(*tracker)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	before := w.tracker.snap
	f(&w.tracker)
	if changed(before, w.tracker.snap) {
		w.queue = append(w.queue, w.tracker.snap)
	}
	w.current.Store(&published{snap: w.tracker.snap, life: w.tracker.life, path: w.tracker.path})
}

// deliver hands the queued changes to OnChange. If somebody else is at it, it
// waits until that one is done, who also takes what was queued meanwhile.
func (w *Watcher) deliver(ctx context.Context) error {
	w.mu.Lock()
	if idle := w.idle; idle != nil {
		w.mu.Unlock()
		select {
		case <-idle:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	idle := make(chan struct{})
	w.idle = idle
	for len(w.queue) > 0 {
		snap := w.queue[0]
		w.queue = w.queue[1:]
		w.mu.Unlock()
		w.opts.OnChange(snap)
		w.mu.Lock()
	}
	w.idle = nil
	w.mu.Unlock()
	close(idle)
	return nil
}

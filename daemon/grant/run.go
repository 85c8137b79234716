package grant

import (
	"context"
	"time"
)

// stopWait is how long Run waits for a reading under way when it ends. Only a
// hung file system takes longer, and must not keep the daemon from stopping.
const stopWait = time.Second

// Run watches the file until ctx ends, and then returns nil. It is to be called
// once. It begins with a reading of its own, so that nothing is missed since
// [Watcher.Load].
func (w *Watcher) Run(ctx context.Context) error {
	s := newSentry(w.notify, w.opts.FastPoll, w.opts.Logger)
	defer s.close()
	loop{w: w, sentry: s, looked: make(chan patrol, 1)}.run(ctx)
	return nil
}

// patrol is the outcome of one look at the file and its directories.
type patrol struct {
	chain   chain
	watched bool // every change will be seen
}

// loop is the state of Run. Its one goroutine owns both timers.
type loop struct {
	w      *Watcher
	sentry *sentry
	looked chan patrol

	chain    chain
	looking  bool // a look is under way: looked will be sent to
	again    bool // something happened meanwhile
	debounce bool // the look timer runs because of an event

	look *time.Timer // the next look at the file
	tick *time.Timer // the next moment that the clock alone changes something
}

func (l loop) run(ctx context.Context) {
	l.look, l.tick = time.NewTimer(0), time.NewTimer(0)
	defer l.look.Stop()
	defer l.tick.Stop()
	for {
		select {
		case <-ctx.Done():
			l.stop()
			return
		case event := <-l.sentry.events():
			// While a look is under way the chain may be about to change.
			if l.looking || l.chain.concerns(event.Name) {
				l.soon()
			}
		case err := <-l.sentry.errors():
			l.w.opts.Logger.Debug("events of the grant file's directories were lost; reading it anew", "error", err)
			l.soon()
		case <-l.w.reread:
			l.soon()
		case <-l.look.C:
			l.start(ctx)
		case p := <-l.looked:
			l.finish(p)
		case <-l.tick.C:
			l.w.update((*tracker).tick)
			_ = l.w.deliver(ctx) // fails only when ctx ends
			l.tick.Reset(l.untilTick())
		}
	}
}

// soon has the file read after the debounce time. Further events don't put it
// off, or a file that changes all the time would never be read.
func (l *loop) soon() {
	switch {
	case l.looking:
		l.again = true
	case !l.debounce:
		l.debounce = true
		l.look.Reset(l.w.opts.Debounce)
	}
}

// start looks at the file in a goroutine of its own: a file system may hang, and
// the token must expire even so. The watches come first, so that no change falls
// between them and the reading.
func (l *loop) start(ctx context.Context) {
	l.looking, l.again, l.debounce = true, false, false
	go func() {
		var p patrol
		p.chain, p.watched = l.sentry.follow(l.w.file.path)
		_ = l.w.look(ctx, false) // fails only when ctx ends
		l.looked <- p
	}()
}

// finish sets the timers after a look.
func (l *loop) finish(p patrol) {
	l.looking, l.chain = false, p.chain
	wait := l.w.opts.Poll
	if !p.watched {
		wait = min(wait, l.w.opts.FastPoll)
	}
	l.w.mu.Lock()
	wait = min(wait, max(0, l.w.tracker.untilWithdrawal()))
	l.w.mu.Unlock()
	l.look.Reset(wait)
	l.tick.Reset(l.untilTick())
	if l.again {
		l.soon()
	}
}

// untilTick returns the time until the clock alone changes something. Timers
// stand still while the machine is suspended, and don't see the wall clock being
// set, so it is never longer than a poll.
func (l *loop) untilTick() time.Duration {
	l.w.mu.Lock()
	defer l.w.mu.Unlock()
	return max(0, min(l.w.opts.Poll, l.w.tracker.untilTick()))
}

// stop waits until the last look is over.
func (l *loop) stop() {
	timer := time.NewTimer(stopWait)
	defer timer.Stop()
	if l.looking {
		select {
		case <-l.looked:
		case <-timer.C:
			return
		}
	}
	// The look ended with the context, its reading may not have.
	select {
	case l.w.turn <- struct{}{}:
		<-l.w.turn
	case <-timer.C:
	}
}

package audit

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/grantexd/grantexd/socketapi/peer"
	"github.com/grantexd/grantexd/upstream/clock"
)

// DefaultInterval is how often counts are written.
const DefaultInterval = time.Minute

// Options configure a [Log]. The zero value writes to nobody.
type Options struct {
	// Path is the file that lines are appended to, which is made 0600 if it is
	// missing; "" sends them to Logger.
	Path string
	// Logger gets the lines if Path is "", whatever its level, and is told when
	// they can't be written. Nil discards.
	Logger *slog.Logger
	// Required refuses releases that can't be recorded, and lets Run end with
	// an error. Otherwise the daemon says so loudly and goes on.
	Required bool
	// Interval is how often counts are written; 0 means [DefaultInterval].
	Interval time.Duration
	// Clock stamps the lines; nil is the machine's.
	Clock clock.Clock
}

// Log is the audit log. It is safe for concurrent use. A line is written by
// whoever causes it, so that none is only on its way when the credential has
// left already; a disk that hangs holds up first releases, and no others.
type Log struct {
	logger   *slog.Logger
	required bool
	interval time.Duration
	clock    clock.Clock
	lines    slog.Handler
	file     *file // nil if the lines go to the logger

	numbers atomic.Uint64 // of connections
	failing atomic.Bool   // err != nil, for those who can't wait for mu
	failed  chan struct{} // receives when a Required log fails

	mu   sync.Mutex // guards writing, and the rest
	err  error      // of the last line
	lost uint64     // lines since err

	denials denials

	liveMu sync.Mutex // guards live
	live   map[*Connection]struct{}
}

// New opens the log. It fails only if the log is Required and can't be opened;
// otherwise each line tries again.
func New(o Options) (*Log, error) {
	l := &Log{
		logger: o.Logger, required: o.Required, interval: o.Interval, clock: o.Clock,
		failed: make(chan struct{}, 1), live: make(map[*Connection]struct{}),
	}
	if l.logger == nil {
		l.logger = slog.New(slog.DiscardHandler)
	}
	if l.interval <= 0 {
		l.interval = DefaultInterval
	}
	if l.clock == nil {
		l.clock = clock.System{}
	}
	if o.Path == "" {
		l.lines = l.logger.Handler()
		return l, nil
	}
	l.file = &file{path: o.Path, logger: l.logger}
	l.lines = slog.NewJSONHandler(l.file, &slog.HandlerOptions{ReplaceAttr: jsonAttr})
	if err := l.file.reopen(); err != nil {
		if l.required {
			return nil, fmt.Errorf("audit: %w", err)
		}
		l.mu.Lock()
		l.note(err)
		l.lost = 0 // there was no line yet
		l.mu.Unlock()
	}
	return l, nil
}

// Run writes the counts each interval until ctx ends, and then once more. It
// returns an error only if the log is Required and can't be written.
func (l *Log) Run(ctx context.Context) error {
	ticker := time.NewTicker(l.interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			l.flush()
			return l.failure()
		case <-ticker.C:
			l.flush()
		case <-l.failed:
		}
		if err := l.failure(); err != nil {
			return err
		}
	}
}

// failure returns why the daemon must stop, nil if it must not.
func (l *Log) failure() error {
	if err := l.Err(); err != nil && l.required {
		return fmt.Errorf("audit: the log is required and can't be written: %w", err)
	}
	return nil
}

// Reopen opens the file anew, for the time after it was rotated away. If that
// fails, lines keep going to the old one.
func (l *Log) Reopen() error {
	if l.file == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.file.reopen(); err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	return nil
}

// Close writes what is still to be counted and closes the file. Nothing can be
// recorded after it.
func (l *Log) Close() error {
	l.flush()
	if l.file == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.file.close()
}

// Err returns why the last line could not be written, nil if it was.
func (l *Log) Err() error {
	if !l.failing.Load() {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// write writes one line.
func (l *Log) write(level slog.Level, event string, attrs ...[]slog.Attr) error {
	record := slog.NewRecord(l.clock.Now().UTC(), level, event, 0)
	for _, a := range attrs {
		record.AddAttrs(a...)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	// Not through the logger: it would drop lines below its level, and not say
	// whether it could write the others.
	err := l.lines.Handle(context.Background(), record)
	l.note(err)
	return err
}

// note keeps the log's state, and says once when it goes bad and when it is good
// again. l.mu must be held.
func (l *Log) note(err error) {
	switch {
	case err != nil:
		if l.err == nil {
			l.logger.Error("audit log can't be written", "error", err, "required", l.required)
		}
		l.lost++
		if l.required {
			select {
			case l.failed <- struct{}{}:
			default: // Run is told already
			}
		}
	case l.err != nil:
		l.logger.Warn("audit log can be written again", "lines_lost", l.lost)
		l.lost = 0
	}
	l.err = err
	l.failing.Store(err != nil)
}

// flush writes all counts.
func (l *Log) flush() {
	l.liveMu.Lock()
	live := make([]*Connection, 0, len(l.live))
	for c := range l.live {
		live = append(live, c)
	}
	l.liveMu.Unlock()
	for _, c := range live {
		c.flush()
	}
	l.flushDenials()
}

// Connection returns the record of a connection that id made. Close it when the
// connection ends.
func (l *Log) Connection(id *peer.Identity) *Connection {
	return &Connection{log: l, id: id, number: l.numbers.Add(1)}
}

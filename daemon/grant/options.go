package grant

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/grantexd/grantexd/upstream/clock"
)

// The defaults of [Options].
const (
	// DefaultDebounce is how long changes are collected before the file is read:
	// long enough for a rename or the steps of a ..data swap.
	DefaultDebounce = 100 * time.Millisecond
	// DefaultSettle is how far apart the two readings are that must agree.
	DefaultSettle = 100 * time.Millisecond
	// DefaultPoll is how often the file is read without any event, since some
	// mounts send none.
	DefaultPoll = 30 * time.Second
	// DefaultFastPoll is how often it is read while events can't be had.
	DefaultFastPoll = 500 * time.Millisecond
	// DefaultGoneAfter is how long the file must be gone to be withdrawn: longer
	// than the gap of a writer that deletes and creates it.
	DefaultGoneAfter = 2 * time.Second
)

// Options configures a [Watcher]. Path is required; for durations 0 is the
// default and less an error.
type Options struct {
	// Path is the grant file. A relative one is taken from the working directory
	// at the time of [New].
	Path string
	// Strict refuses a token that other users can read, instead of warning.
	Strict bool
	// Debounce is how long changes are collected; see [DefaultDebounce].
	Debounce time.Duration
	// Settle is how far apart two readings are that must agree; see
	// [DefaultSettle].
	Settle time.Duration
	// Poll is how often the file is read in any case; see [DefaultPoll].
	Poll time.Duration
	// FastPoll is how often it is read while a directory on its path is missing
	// or can't be watched; see [DefaultFastPoll].
	FastPoll time.Duration
	// GoneAfter is how long the file must be gone, in boot time, to be
	// withdrawn; see [DefaultGoneAfter].
	GoneAfter time.Duration
	// Clock is the machine's clocks, nil for [clock.System].
	Clock clock.Clock
	// Logger is told of changes, problems and a near expiry; nil for none.
	Logger *slog.Logger
	// OnChange is told when State or Grant have changed, the first token
	// included; nil for nobody. Calls come one at a time, in order, and each
	// ends before a [Watcher.Reread] that found the change returns. It may call
	// [Watcher.Current], which can be ahead of the snapshot it is given, but
	// neither call Reread nor wait for somebody who does.
	OnChange func(Snapshot)
}

// setDefaults replaces zero values by their defaults.
func (o *Options) setDefaults() error {
	for name, d := range map[string]struct {
		value    *time.Duration
		standard time.Duration
	}{
		"debounce":   {&o.Debounce, DefaultDebounce},
		"settle":     {&o.Settle, DefaultSettle},
		"poll":       {&o.Poll, DefaultPoll},
		"fast poll":  {&o.FastPoll, DefaultFastPoll},
		"gone after": {&o.GoneAfter, DefaultGoneAfter},
	} {
		if *d.value < 0 {
			return fmt.Errorf("grant: %s must not be negative, it is %s", name, *d.value)
		}
		if *d.value == 0 {
			*d.value = d.standard
		}
	}
	if o.Clock == nil {
		o.Clock = clock.System{}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.OnChange == nil {
		o.OnChange = func(Snapshot) {}
	}
	return nil
}

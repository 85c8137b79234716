package systemd

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// Watchdog keeps the service manager from restarting the service for as long as
// a check succeeds (WatchdogSec=, systemd.service(5)).
type Watchdog struct {
	// Check returns nil if the service really does its work. It is required.
	// Its context ends after a quarter of the interval; an answer after that
	// counts as none.
	Check func(ctx context.Context) error
	// Log gets a line for each failed check, so that the journal says why the
	// manager is about to act; nil discards them.
	Log *slog.Logger
}

// Run checks and reports at half the interval that the manager set in
// $WATCHDOG_USEC, until ctx ends, and then returns nil. After a failed check it
// tries again soon, so one hiccup does not cost a restart. Without a watchdog it
// returns nil at once; it returns an error if the variable is malformed.
func (w Watchdog) Run(ctx context.Context) error {
	interval, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		return fmt.Errorf("watchdog: %w", err)
	}
	if interval == 0 {
		return nil
	}
	w.watch(ctx, interval, func() error { return notify(daemon.SdNotifyWatchdog) })
	return nil
}

func (w Watchdog) watch(ctx context.Context, interval time.Duration, ping func() error) {
	log := w.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	// With a check of at most a quarter, a failed one at the half leaves time
	// for another one that is reported before the interval is over.
	period, retry, patience := interval/2, interval/10, interval/4
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		started := time.Now()
		err := w.check(ctx, patience)
		if err == nil {
			err = ping()
		}
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			log.Error("watchdog check failed", "error", err, "interval", interval)
			timer.Reset(retry)
			continue
		}
		timer.Reset(period - time.Since(started))
	}
}

// check calls the check and fails it if it took longer than patience, even if it
// ignored its context. A check that never returns is not reported either, which
// is what the watchdog is for.
func (w Watchdog) check(ctx context.Context, patience time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := w.Check(ctx); err != nil {
		return err
	}
	return ctx.Err()
}

package daemon

import (
	"context"
	"fmt"
	"time"

	"github.com/grantexd/grantexd/daemon/broker"
)

// reportInterval is how often the service manager is told how the daemon is.
const reportInterval = 30 * time.Second

// notify logs that the service manager could not be told something.
func (d *daemon) notify(err error) {
	if err != nil {
		d.log.Warn("telling the service manager failed", "error", err)
	}
}

// reportStatus keeps the line that systemctl status shows up to date, until ctx
// ends.
func (d *daemon) reportStatus(ctx context.Context) error {
	tick := time.NewTicker(reportInterval)
	defer tick.Stop()
	said := d.statusLine()
	for {
		changed := d.broker.CacheChanged()
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-changed:
		}
		if line := d.statusLine(); line != said {
			d.notify(d.notifier.Status(line))
			said = line
		}
	}
}

// statusLine says in one line what an operator looks for first: whether reads
// are answered, how long the grant lasts, and what the vault said last.
func (d *daemon) statusLine() string {
	st := d.broker.Status()
	if st.Err != nil {
		return "Not serving: " + d.source.message(st.Err)
	}
	line := fmt.Sprintf("Serving %d credentials", st.Held)
	if c := st.Claims; c != nil && !c.ExpiresAt.IsZero() {
		line += fmt.Sprintf("; grant expires in %s", roughly(time.Until(c.ExpiresAt)))
	}
	return line + "; " + vaultLine(st)
}

func vaultLine(st broker.Status) string {
	switch {
	case st.LastError != "":
		return "vault failing: " + st.LastError
	case st.Limited > 0:
		return fmt.Sprintf("vault asks to wait %s", roughly(st.Limited))
	case st.LastSuccess < 0:
		return "vault not asked yet"
	}
	return "vault ok"
}

// roughly rounds a duration to what a person reads, so that the line does not
// change every second.
func roughly(d time.Duration) time.Duration {
	switch {
	case d > 10*time.Hour:
		return d.Round(time.Hour)
	case d > 10*time.Minute:
		return d.Round(time.Minute)
	}
	return d.Round(10 * time.Second)
}

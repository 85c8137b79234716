package daemon

import (
	"context"
	"errors"
	"log/slog"

	"github.com/grantexd/grantexd/socketapi/access"
)

// reloadOnHangup reads the configuration anew at each hangup, until ctx ends.
func (d *daemon) reloadOnHangup(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case _, ok := <-d.options.Hangup:
			if !ok {
				return nil
			}
		}
		d.notify(d.notifier.Reloading())
		if err := d.reload(); err != nil {
			d.log.Error("reloading the configuration failed; nothing was changed", "error", err)
		}
		// The manager waits for this after a failed reload too.
		d.notify(d.notifier.Ready(d.statusLine()))
	}
}

// reload puts a new configuration into force, all of it or nothing. Connections
// stay open.
func (d *daemon) reload() error {
	if err := d.audit.Reopen(); err != nil {
		// The lines keep going to the old file.
		d.log.Error("reopening the audit file failed", "error", err)
	}
	if d.options.Reload == nil {
		return errors.New("there is no configuration to read")
	}
	next, warnings, err := d.options.Reload()
	if err != nil {
		return err
	}
	rules, err := access.Compile(next.Access, nil)
	if err != nil {
		return err
	}
	var level slog.Level
	if err := level.UnmarshalText([]byte(next.Log.Level)); err != nil {
		return err
	}
	if err := d.budget.SetLimits(next.limits()); err != nil {
		return err
	}
	d.broker.Reconfigure(next.tunables(), next.Cache.Prefetch)
	d.api.SetAccess(rules)
	if d.options.Level != nil {
		d.options.Level.Set(level)
	}
	for _, w := range warnings {
		d.log.Warn("the configuration should be looked at", "warning", w.Message)
	}
	for _, group := range d.needRestart(next) {
		d.log.Warn("a change of the configuration needs a restart", "group", group)
	}
	d.log.Info("the configuration was reloaded")
	return nil
}

// needRestart names the groups whose changes a reload does not put into force.
func (d *daemon) needRestart(next *Config) []string {
	var groups []string
	old := d.config
	// The broker's part of upstream is taken over by a reload.
	oldUpstream := old.Upstream
	oldUpstream.FlightTimeout = next.Upstream.FlightTimeout
	oldUpstream.CooldownMin, oldUpstream.CooldownMax = next.Upstream.CooldownMin, next.Upstream.CooldownMax
	for _, g := range []struct {
		name    string
		changed bool
	}{
		{"grant", old.Grant != next.Grant},
		{"upstream", oldUpstream != next.Upstream},
		{"socket", old.Socket != next.Socket},
		{"budget.ledger", old.Budget.Ledger != next.Budget.Ledger},
		{"audit", old.Audit != next.Audit},
		{"log.format", old.Log.Format != next.Log.Format},
		{"state", old.State != next.State},
	} {
		if g.changed {
			groups = append(groups, g.name)
		}
	}
	return groups
}

package main

import (
	"cmp"

	"github.com/grantexd/grantexd/socketapi/wire"
)

// checkRunning says how the daemon is that answers on the socket.
func (c *checkup) checkRunning(status wire.Status) {
	const subject = "daemon"
	c.running = status.Ready
	switch {
	case status.Grant.State != "usable":
		c.bad(subject, "its grant is %s: %s", status.Grant.State, cmp.Or(status.Grant.Problem, "grantexd status says more"))
	case !status.Ready:
		c.warn(subject, "it is not ready yet: grantexd status says more")
	default:
		c.ok(subject, "it is ready, holds %s, and %d of %d exchanges are left",
			counted(status.Cache.Held, "credential"), status.Budget.Free, status.Budget.Limit)
	}
	if own := build().Version; status.Version != own {
		c.warn(subject, "it runs version %s, and this is %s: restart it", status.Version, own)
	}
	if status.Grant.File != c.config.Grant.File {
		c.warn(subject, "its grant file is %s, and the configuration says %s: restart it, or give check the daemon's flags and environment",
			status.Grant.File, c.config.Grant.File)
	}
	for _, warning := range status.Warnings {
		c.warn(subject, "%s", warning)
	}
}

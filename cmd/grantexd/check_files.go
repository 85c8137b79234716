package main

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/grantexd/grantexd/daemon"
	"github.com/grantexd/grantexd/daemon/grant"
)

// checkFiles looks at what the daemon writes.
func (c *checkup) checkFiles() {
	dir := c.config.State.Dir
	c.checkWritable("state.dir", dir, "departures to the vault are spread out, one each 3 s, until it can be")
	if info, err := os.Stat(dir); err == nil && info.Mode().Perm()&0o022 != 0 {
		c.warn("state.dir", "%s: others may write it (%s), and so change the count of departures: chmod go-w it", dir, info.Mode())
	}
	if ledger := c.config.Budget.Ledger; ledger != "" {
		c.checkWritable("budget.ledger", filepath.Dir(ledger), "departures to the vault are spread out, one each 3 s, until it can be")
	}
	if file := c.config.Audit.File; file != "" {
		consequence := "the daemon goes on without an audit"
		if c.config.Audit.Required {
			consequence = "the daemon releases nothing, since audit.required is set"
		}
		c.checkWritable("audit.file", filepath.Dir(file), consequence)
		if info, err := os.Stat(file); err == nil && info.Mode().Perm()&0o077 != 0 {
			c.warn("audit.file", "%s: others than its owner may read or write it (%s): chmod 0600 it", file, info.Mode())
		}
	}
	if file := c.config.Upstream.CAFile; file != "" {
		if _, err := os.ReadFile(file); err != nil {
			c.bad("upstream.ca-file", "%s can't be read: %s: mend it, or remove the key", file, reason(err))
		}
	}
}

// checkWritable looks whether files can be made in dir, or dir itself can be.
func (c *checkup) checkWritable(subject, dir, consequence string) {
	for existing := dir; ; existing = filepath.Dir(existing) {
		info, err := os.Stat(existing)
		switch {
		case errors.Is(err, fs.ErrNotExist) && existing != filepath.Dir(existing):
			continue // the daemon makes it
		case err != nil:
			c.warn(subject, "%s can't be looked at (%s): %s", existing, reason(err), consequence)
		case !info.IsDir():
			c.warn(subject, "%s is no directory: %s; name another one", existing, consequence)
		case unix.Access(existing, unix.W_OK|unix.X_OK) != nil:
			c.warn(subject, "%s can't be written by this user: %s; give it to the daemon's user (chown)", existing, consequence)
		case existing == dir:
			c.ok(subject, "%s can be written", dir)
		default:
			c.ok(subject, "%s does not exist yet and can be made", dir)
		}
		return
	}
}

// checkGrant reads the grant file as the daemon would.
func (c *checkup) checkGrant(ctx context.Context) {
	g := c.config.Grant
	snapshot, err := readGrantFile(ctx, g)
	if err != nil {
		c.bad("grant.file", "%s: %s", g.File, err)
		return
	}
	if snapshot.Grant == nil {
		c.bad("grant.file", "%s", snapshot.Problem)
		return
	}
	claims := snapshot.Grant.Claims
	c.ok("grant.file", "%s holds a grant of %s for %s (grant %s), scopes %v",
		g.File, orUnknown(claims.Subject), orUnknown(claims.Agent), orUnknown(claims.GrantID), claims.Scopes)
	if snapshot.State == grant.Usable && snapshot.Problem != "" { // that of an expired one follows
		c.warn("grant.file", "%s", snapshot.Problem)
	}
	c.checkLife(claims, time.Now())
	c.checkScopes(claims)
}

func readGrantFile(ctx context.Context, g daemon.GrantConfig) (grant.Snapshot, error) {
	watcher, err := grant.New(grant.Options{Path: g.File, Strict: g.Strict, Settle: g.Settle})
	if err != nil {
		return grant.Snapshot{}, err
	}
	if err := watcher.Load(ctx); err != nil {
		return grant.Snapshot{}, err
	}
	return watcher.Current(), nil
}

// checkLife says what is left of the grant.
func (c *checkup) checkLife(claims grant.Claims, now time.Time) {
	if claims.ExpiresAt.IsZero() {
		c.warn("grant.life", "the token does not say when it expires: only the vault knows")
		return
	}
	left := claims.ExpiresAt.Sub(now)
	text := seconds(left.Seconds()) + " are left, until " + moment(claims.ExpiresAt)
	whole := claims.ExpiresAt.Sub(claims.IssuedAt)
	switch {
	case left <= 0:
		c.bad("grant.life", "it expired %s ago, at %s: put a new one into the file", seconds(-left.Seconds()), moment(claims.ExpiresAt))
	case left < 5*time.Minute, !claims.IssuedAt.IsZero() && left < whole/10:
		c.warn("grant.life", "only %s: put a new one into the file", text)
	default:
		c.ok("grant.life", "%s", text)
	}
}

func orUnknown(s string) string {
	if s == "" {
		return "(not said)"
	}
	return s
}

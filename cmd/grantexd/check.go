package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/grantexd/grantexd/daemon"
	"github.com/grantexd/grantexd/socketapi/access"
)

// The levels of a finding.
const (
	levelOK      = "ok"
	levelWarning = "warning"
	levelError   = "error"
)

// finding is one line of check.
type finding struct {
	Level   string `json:"level"`
	Subject string `json:"subject"`
	// Message says what is, and what to do if it is not well.
	Message string `json:"message"`
}

// checkup collects findings about one configuration.
type checkup struct {
	config   *daemon.Config
	findings []finding
	// running says that a daemon answers on the socket and is ready.
	running bool
}

func (c *checkup) add(level, subject, format string, args ...any) {
	c.findings = append(c.findings, finding{level, subject, plain(fmt.Sprintf(format, args...))})
}

func (c *checkup) ok(subject, format string, args ...any) { c.add(levelOK, subject, format, args...) }
func (c *checkup) warn(subject, format string, args ...any) {
	c.add(levelWarning, subject, format, args...)
}
func (c *checkup) bad(subject, format string, args ...any) {
	c.add(levelError, subject, format, args...)
}

func (a *app) checkCommand() *cobra.Command {
	var asJSON, offline bool
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "check [--as UID:GID SERVICE]",
		Short: "Say what serve would meet",
		Long: "check reads the configuration as serve would and says of each thing that it needs whether it\n" +
			"is well, and what to do if it is not: files and their permissions, the grant and what is left\n" +
			"of it, the socket and who could connect, the vault. It changes nothing and costs no exchange.\n" +
			"Run it as the daemon's user: sudo -u grantexd grantexd check.",
		Example: "  grantexd check --grant-file ./grant --upstream https://api.grantex.dev\n" +
			"  grantexd check --offline --as 1001:1001 github",
	}
	flags := addConfigFlags(cmd)
	as := addAsFlag(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.Flags().BoolVar(&offline, "offline", false, "don't ask the vault")
	cmd.Flags().DurationVar(&timeout, "timeout", 10*time.Second, "give up on the vault after `DURATION`")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if timeout <= 0 {
			return usagef("--timeout must be above 0")
		}
		c := &checkup{}
		ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
		defer cancel()
		if !a.checkConfig(c, flags) {
			// What the configuration says of the socket can't be relied on.
			c.running = a.daemonClient(flags.given()["socket"]).Ready(ctx) == nil
		} else {
			c.checkFiles()
			c.checkGrant(ctx)
			c.checkSocket(ctx)
			c.checkAccess()
			c.checkAs(as)
			if !offline {
				c.checkVault(ctx, a.getenv)
			}
		}
		return a.printFindings(c, asJSON)
	}
	return cmd
}

// checkConfig loads the configuration, and reports whether the rest can be looked
// at.
func (a *app) checkConfig(c *checkup, flags *configFlags) bool {
	uid := strconv.Itoa(os.Geteuid())
	name := "uid " + uid
	if u, err := user.LookupId(uid); err == nil {
		name = u.Username + " (" + name + ")"
	}
	config, warnings, err := a.load(flags.file, flags.given())
	for _, w := range warnings {
		c.warn("config", "%s", w.Message)
	}
	if err != nil {
		for line := range strings.SplitSeq(err.Error(), "\n") {
			c.bad("config", "%s", line)
		}
		return false
	}
	c.ok("config", "it can be read; checked as %s", name)
	c.config = config
	return true
}

// checkAccess says what the access rules allow in general.
func (c *checkup) checkAccess() {
	rules, err := access.Compile(c.config.Access, nil)
	switch {
	case err != nil: // Load has compiled them already, but accounts come and go
		c.bad("access", "%s", err)
	case c.config.Access == nil:
		c.ok("access", "there are no rules: whoever can connect may read everything that the grant opens")
	case len(c.config.Access) == 0:
		c.warn("access", "the list is empty: nobody may read anything; add a rule, or remove the key")
	default:
		c.ok("access", "%s: what none of them allows is denied (grantexd check --as UID:GID SERVICE says which decides)", counted(len(c.config.Access), "rule"))
	}
	if rules.AsksUnits() {
		c.warn("access", "a rule names units: under ProtectProc=invisible, as in the packaged service, callers' units can't be seen "+
			"and the rule matches nobody; set ProtectProc=default in a drop-in")
	}
	if c.config.Socket.ListenTCP != "" && c.config.Access == nil {
		c.warn("access", "socket.listen-tcp is set and there are no rules: whoever can read the token file may read everything; write rules for the principal tcp")
	}
}

// printFindings prints what was found, and makes check fail if there are errors.
func (a *app) printFindings(c *checkup, asJSON bool) error {
	if err := a.writeFindings(c.findings, asJSON); err != nil {
		return err
	}
	return c.verdict()
}

// verdict is the error that check ends with, nil if nothing keeps serve from
// working.
func (c *checkup) verdict() error {
	failures := 0
	for _, f := range c.findings {
		if f.Level == levelError {
			failures++
		}
	}
	if failures == 0 {
		return nil
	}
	text := "check: " + counted(failures, "error") + ": serve would not work with this configuration"
	if c.running {
		text += "; the daemon that runs is ready and not affected by it"
	}
	return errors.New(text)
}

// counted is a number of things in words: 1 error, 2 errors.
func counted(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return strconv.Itoa(n) + " " + thing + "s"
}

func (a *app) writeFindings(findings []finding, asJSON bool) error {
	if asJSON {
		return a.printJSON(map[string]any{"findings": findings})
	}
	p := a.palette()
	paint := map[string]func(string) string{levelOK: p.good, levelWarning: p.fair, levelError: p.bad}
	var t table
	for _, f := range findings {
		t.row(paint[f.Level](f.Level), f.Subject, f.Message)
	}
	return t.print(a.out)
}

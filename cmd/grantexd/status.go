package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/grantexd/grantexd/socketapi/client"
	"github.com/grantexd/grantexd/socketapi/wire"
)

func (a *app) statusCommand() *cobra.Command {
	var asJSON, watch bool
	var interval time.Duration
	cmd := &cobra.Command{
		Use:     "status",
		Short:   "Show how the daemon is",
		Long:    "status shows the grant, the vault, the budget and what is held, and what somebody should\nlook at. It never shows a token.",
		Example: "  grantexd status --watch",
		Args:    noArgs,
	}
	socket := socketFlag(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON; with --watch one object a line")
	cmd.Flags().BoolVar(&watch, "watch", false, "show it again and again, until interrupted")
	cmd.Flags().DurationVar(&interval, "interval", 2*time.Second, "with --watch: every `DURATION`")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c := a.daemonClient(*socket)
		if !watch {
			status, err := c.Status(cmd.Context())
			if err != nil {
				return err
			}
			if asJSON {
				return a.printJSON(status)
			}
			return a.printStatus(a.out, status)
		}
		if interval < 100*time.Millisecond {
			return usagef("--interval must be 100ms or more: see grantexd status --help")
		}
		return untilSignal(cmd.Context(), func(ctx context.Context) error { return a.watchStatus(ctx, c, interval, asJSON) })
	}
	return cmd
}

// watchStatus shows the status until ctx ends. A daemon that is away for a while,
// as in a restart, does not end it.
func (a *app) watchStatus(ctx context.Context, c *client.Client, interval time.Duration, asJSON bool) error {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		status, err := c.Status(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err := a.showStatus(status, err, asJSON); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// showStatus shows one of many statuses.
func (a *app) showStatus(status wire.Status, failure error, asJSON bool) error {
	if asJSON {
		if failure != nil {
			return json.NewEncoder(a.out).Encode(map[string]string{"error": failure.Error()})
		}
		return json.NewEncoder(a.out).Encode(status)
	}
	// In one write, so that the screen does not flicker.
	var screen strings.Builder
	end := "\n"
	if isTerminal(a.out) {
		screen.WriteString("\x1b[H\x1b[2J")
		end = ""
	}
	screen.WriteString(time.Now().Format("15:04:05") + "\n")
	if failure != nil {
		screen.WriteString(failure.Error() + "\n")
	} else if err := a.printStatus(&screen, status); err != nil {
		return err
	}
	_, err := io.WriteString(a.out, screen.String()+end)
	return err
}

func (a *app) printStatus(w io.Writer, s wire.Status) error {
	p := a.palette()
	var t table
	ready := p.good("ready")
	if !s.Ready {
		ready = p.bad("not ready")
	}
	t.row("daemon", ready, fmt.Sprintf("version %s, up for %s", s.Version, seconds(s.UptimeSeconds)))
	grantState, grantText := grantLine(p, s.Grant)
	t.row("grant", grantState, grantText)
	if s.Grant.Principal != "" {
		t.row("", "", fmt.Sprintf("of %s for agent %s: %s", plain(s.Grant.Principal), plain(s.Grant.Agent), plain(strings.Join(s.Grant.Scopes, " "))))
	}
	t.row("", "", plain(s.Grant.File))
	vaultState, vaultText := vaultLine(p, s.Upstream)
	t.row("vault", vaultState, vaultText)
	budgetState, budgetText := budgetLine(p, s.Budget)
	t.row("budget", budgetState, budgetText)
	t.row("cache", fmt.Sprint(s.Cache.Held)+" held", fmt.Sprintf("%d stale, %d that the vault should have renewed, at most %d",
		s.Cache.Stale, s.Cache.RotationStuck, s.Cache.Limit))
	if err := t.print(w); err != nil {
		return err
	}
	for _, warning := range s.Warnings {
		if _, err := fmt.Fprintln(w, p.fair("warning: ")+plain(warning)); err != nil {
			return err
		}
	}
	return nil
}

// grantLine leaves out what is wrong with the grant file: a warning says that.
func grantLine(p palette, g wire.Grant) (state, text string) {
	state = p.bad(g.State)
	switch g.State {
	case "usable":
		state = p.good(g.State)
	case "unconfirmed":
		state = p.fair(g.State)
	}
	var parts []string
	if g.RemainingSeconds != nil {
		parts = append(parts, "expires in "+seconds(*g.RemainingSeconds))
	}
	if g.ConfirmedSeconds != nil {
		parts = append(parts, "confirmed by the vault "+seconds(*g.ConfirmedSeconds)+" ago")
	}
	if g.NextProbeSeconds != nil {
		parts = append(parts, "tried again in "+seconds(*g.NextProbeSeconds))
	}
	return state, strings.Join(parts, ", ")
}

func vaultLine(p palette, u wire.Upstream) (state, text string) {
	state = p.bad(u.State)
	switch u.State {
	case "ok":
		state = p.good(u.State)
	case "unknown":
		state = "not asked yet"
	case "limited":
		state = p.fair(u.State)
	}
	parts := []string{plain(u.URL)}
	if u.LastSuccessSeconds != nil {
		parts = append(parts, "answered "+seconds(*u.LastSuccessSeconds)+" ago")
	}
	if u.FailingSeconds > 0 {
		parts = append(parts, "failing for "+seconds(u.FailingSeconds))
	}
	if u.LastError != "" {
		parts = append(parts, plain(u.LastError))
	}
	if u.ClockOffsetSeconds != nil && (*u.ClockOffsetSeconds > 5 || *u.ClockOffsetSeconds < -5) {
		parts = append(parts, p.fair("its clock differs by "+seconds(*u.ClockOffsetSeconds)))
	}
	return state, strings.Join(parts, ", ")
}

func budgetLine(p palette, b wire.Budget) (state, text string) {
	state = fmt.Sprintf("%d of %d left", b.Free, b.Limit)
	if b.Free == 0 {
		state = p.bad(state)
	}
	parts := []string{"per " + seconds(b.WindowSeconds)}
	if b.NextSlotSeconds > 0 {
		parts = append(parts, "the next in "+seconds(b.NextSlotSeconds))
	}
	if b.BlockedSeconds > 0 {
		parts = append(parts, p.bad("the vault asked to stay away for "+seconds(b.BlockedSeconds)))
	}
	if b.Waiting > 0 {
		parts = append(parts, fmt.Sprintf("%d waiting", b.Waiting))
	}
	if b.Others {
		parts = append(parts, p.fair("somebody else spends of it too"))
	}
	if b.Paced != "" {
		parts = append(parts, p.fair("spread out: "+plain(b.Paced)))
	}
	return state, strings.Join(parts, ", ")
}

package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/grantexd/grantexd/socketapi/client"
	"github.com/grantexd/grantexd/socketapi/wire"
)

// waitPause is the time between two questions whether the daemon is ready: short
// for a person or a start script, and nothing for the daemon.
const waitPause = 100 * time.Millisecond

func (a *app) waitCommand() *cobra.Command {
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "wait",
		Short: "Wait until the daemon is ready",
		Long: "wait returns as soon as the daemon answers and has a usable grant and what it was told to\n" +
			"prefetch. If that doesn't happen in time, it says why, with the exit code of the reason.",
		Example: "  grantexd wait --timeout 30s && start-my-agent",
		Args:    noArgs,
	}
	socket := socketFlag(cmd)
	cmd.Flags().DurationVar(&timeout, "timeout", 30*time.Second, "give up after `DURATION`; 0 asks once")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := checkWait(cmd, "timeout", timeout); err != nil {
			return err
		}
		return untilReady(cmd.Context(), a.daemonClient(*socket), timeout)
	}
	return cmd
}

// vaultsError is what the vault failed with, for the end of an error that is not
// about the vault; "" if there is nothing to add.
func vaultsError(ctx context.Context, c *client.Client, err error) string {
	var answer *wire.Error
	if !errors.As(err, &answer) {
		return "" // no daemon to ask
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	status, failure := c.Status(ctx)
	last := plain(status.Upstream.LastError)
	if failure != nil || last == "" || strings.Contains(err.Error(), last) {
		return ""
	}
	return "; the vault: " + last
}

// untilReady asks until the daemon is ready or the timeout is over.
func untilReady(ctx context.Context, c *client.Client, timeout time.Duration) error {
	deadline := time.Now().Add(timeout)
	for {
		// A daemon that hangs must not make us hang.
		asking, cancel := context.WithTimeout(ctx, max(time.Until(deadline), time.Second))
		err := c.Ready(asking)
		cancel()
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if time.Until(deadline) < waitPause {
			return fmt.Errorf("not ready after %s: %w%s", seconds(timeout.Seconds()), err, vaultsError(ctx, c, err))
		}
		select {
		case <-ctx.Done():
		case <-time.After(waitPause):
		}
	}
}

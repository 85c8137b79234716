package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/grantexd/grantexd/socketapi/client"
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
			return fmt.Errorf("not ready after %s: %w", seconds(timeout.Seconds()), err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(waitPause):
		}
	}
}

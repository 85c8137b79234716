package main

import (
	"context"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/grantexd/grantexd/daemon"
)

func (a *app) serveCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the daemon",
		Long: "serve holds the grant token from its file and answers on the socket, until it is\n" +
			"stopped. Flags stand over GRANTEXD_* variables, those over the configuration\n" +
			"file, and that over the defaults. SIGHUP reads the configuration again.",
		Example: "  grantexd serve --grant-file /etc/grantexd/grant --socket /run/grantexd/grantexd.sock",
		Args:    noArgs,
	}
	flags := addConfigFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		load := func() (*daemon.Config, []daemon.Warning, error) { return a.load(flags.file, flags.given()) }
		return untilSignal(cmd.Context(), func(ctx context.Context) error { return a.serve(ctx, load, nil) })
	}
	return cmd
}

// serve runs a daemon with what load reads until ctx ends. started, if it is not
// nil, is called with the daemon's addresses once it answers.
func (a *app) serve(ctx context.Context, load func() (*daemon.Config, []daemon.Warning, error), started func([]string)) error {
	// From before the daemon can be found: a hangup that nobody waits for kills.
	hangup, stop := hangups()
	defer stop()
	config, warnings, err := load()
	if err != nil {
		return err
	}
	level := new(slog.LevelVar)
	return daemon.Run(ctx, config, daemon.RunOptions{
		Logger: daemon.NewLogger(a.err, config.Log, level), Level: level, Version: build().Version,
		Reload: load, Hangup: hangup, Warnings: warnings, Started: started,
	})
}

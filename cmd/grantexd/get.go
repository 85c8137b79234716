package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/grantexd/grantexd/daemon"
	"github.com/grantexd/grantexd/socketapi/client"
)

// exchangeSpacing is how long the daemon makes no second exchange of a service
// that nothing but --no-cache asks for, unless it is configured otherwise.
var exchangeSpacing = daemon.Defaults().Cache.ExchangeSpacing

func (a *app) getCommand() *cobra.Command {
	var o client.GetOptions
	var asJSON bool
	var field string
	cmd := &cobra.Command{
		Use:   "get SERVICE",
		Short: "Print the credential of a service",
		Long: "get prints the token of a service and a line break, or with --field another part of its\n" +
			"credential: credentialType, tokenExpiresAt, metadata, or metadata.NAME for a value in that.",
		Example:           "  grantexd get github | gh auth login --with-token",
		Args:              oneArg("the name of a service"),
		ValidArgsFunction: a.completeServices,
	}
	socket := socketFlag(cmd)
	flags := cmd.Flags()
	flags.BoolVar(&asJSON, "json", false, "print the whole credential as JSON, its token included")
	flags.StringVar(&field, "field", "accessToken", "print this `FIELD`")
	flags.BoolVar(&o.NoCache, "no-cache", false, "ask for a new exchange with the vault, within the budget and not before "+seconds(exchangeSpacing.Seconds())+" after the last one")
	flags.DurationVar(&o.Wait, "wait", 0, "wait up to `DURATION` for it, 60s at most (default: the daemon's, 10s)")
	_ = cmd.RegisterFlagCompletionFunc("field", cobra.FixedCompletions(toCompletions(fieldNames), cobra.ShellCompDirectiveNoFileComp))
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := checkWait(cmd, "wait", o.Wait); err != nil {
			return err
		}
		if asJSON && cmd.Flags().Changed("field") {
			return usagef("--json prints the whole credential, --field a part of it: use only one of them")
		}
		if cmd.Flags().Changed("wait") && o.Wait == 0 {
			o.Wait = -1 // what the client calls not to wait at all
		}
		c, meta, err := a.daemonClient(*socket).Get(cmd.Context(), args[0], o)
		if err != nil {
			return err
		}
		if o.NoCache {
			a.warnOfHit(args[0], meta)
		}
		if asJSON {
			return a.printJSON(c)
		}
		text, err := fieldOf(c, field)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(a.out, text)
		return err
	}
	return cmd
}

// warnOfHit says that --no-cache was answered from the cache, and why.
func (a *app) warnOfHit(service string, meta client.Meta) {
	_, outcome, _ := strings.Cut(meta.CacheStatus, "; ")
	if outcome, _, _ = strings.Cut(outcome, ";"); outcome != "hit" {
		return
	}
	age := seconds(meta.Age.Seconds())
	if meta.Age < exchangeSpacing {
		a.warnf("the vault was not asked, since the last exchange was less than %s ago: this credential was confirmed %s ago",
			seconds(exchangeSpacing.Seconds()), age)
		return
	}
	a.warnf("the vault was not asked: this credential was confirmed %s ago; grantexd explain %s says more", age, service)
}

// checkWait refuses a wait that is none.
func checkWait(cmd *cobra.Command, name string, d time.Duration) error {
	if d < 0 {
		return usagef("--%s must not be negative: see %s --help", name, cmd.CommandPath())
	}
	return nil
}

func toCompletions(words []string) []cobra.Completion { return words }

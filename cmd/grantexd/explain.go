package main

import (
	"errors"
	"fmt"
	"io"
	"regexp"

	"github.com/spf13/cobra"

	"github.com/grantexd/grantexd/socketapi/wire"
)

// uidGID is what --as takes.
var uidGID = regexp.MustCompile(`^[0-9]{1,10}:[0-9]{1,10}$`)

func (a *app) explainCommand() *cobra.Command {
	var asJSON bool
	var as string
	cmd := &cobra.Command{
		Use:   "explain SERVICE",
		Short: "Say what a read of a service would meet",
		Long: "explain says whether you may read a service's credential here and by which rule, whether\n" +
			"it is held, how old it is, when it is refreshed, and what went wrong last. It asks the vault\n" +
			"for nothing. If no rule allows it, the exit code is 4 and nothing else is told.",
		Example:           "  grantexd explain github --as 1001:1001",
		Args:              oneArg("the name of a service"),
		ValidArgsFunction: a.completeServices,
	}
	socket := socketFlag(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.Flags().StringVar(&as, "as", "", "explain it for another caller, `UID:GID`; for root and the daemon's own user")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if as != "" && !uidGID.MatchString(as) {
			return usagef("--as takes UID:GID in numbers, such as 1001:1001: see grantexd explain --help")
		}
		e, err := a.daemonClient(*socket).Explain(cmd.Context(), args[0], as)
		if err != nil {
			return err
		}
		if asJSON {
			err = a.printJSON(e)
		} else {
			err = a.printExplanation(a.out, e)
		}
		if err == nil && !e.Allowed {
			err = withExit(exitRefused, errors.New("access is denied: "+plain(e.Rule)))
		}
		return err
	}
	return cmd
}

func (a *app) printExplanation(w io.Writer, e wire.Explanation) error {
	p := a.palette()
	access := p.good("allowed")
	if !e.Allowed {
		access = p.bad("denied")
	}
	var t table
	t.row(p.bold(plain(e.Service)), plain(e.State), "")
	t.row("access", access, plain(e.Rule))
	if h := e.Held; h != nil {
		t.row("held", "confirmed "+seconds(h.AgeSeconds)+" ago", "fingerprint "+plain(h.Fingerprint))
		if h.NextRefreshSeconds != nil {
			t.row("refresh", "in "+seconds(*h.NextRefreshSeconds), "if it is read until then")
		}
	}
	if e.LastError != "" {
		t.row("last error", "", plain(e.LastError))
	}
	if e.RetrySeconds > 0 {
		t.row("try again", "in "+seconds(e.RetrySeconds), "")
	}
	budgetState, budgetText := budgetLine(p, e.Budget)
	t.row("budget", budgetState, budgetText)
	if err := t.print(w); err != nil {
		return err
	}
	for _, sentence := range e.Summary {
		if _, err := fmt.Fprintln(w, "- "+plain(sentence)); err != nil {
			return err
		}
	}
	return nil
}

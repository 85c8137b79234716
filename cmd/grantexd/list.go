package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/grantexd/grantexd/socketapi/wire"
)

func (a *app) listCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List the credentials that the daemon holds",
		Long:    "list shows what the daemon holds at the moment and you may read, without tokens. What it\ndoesn't hold yet, it gets when it is asked for it.",
		Example: "  grantexd list --json",
		Args:    noArgs,
	}
	socket := socketFlag(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		list, err := a.daemonClient(*socket).List(cmd.Context())
		if err != nil {
			return err
		}
		if asJSON {
			return a.printJSON(list)
		}
		return a.printHeld(list)
	}
	return cmd
}

func (a *app) printHeld(list wire.CredentialList) error {
	if len(list.Credentials) == 0 {
		_, err := fmt.Fprintln(a.out, "nothing is held: a credential is fetched when somebody asks for it")
		return err
	}
	p := a.palette()
	var t table
	t.row("SERVICE", "TYPE", "FRESH FOR", "EXPIRES", "AGE", "LAST READ", "")
	for _, h := range list.Credentials {
		expires, read, remark := "never", "never", ""
		if h.TokenExpiresAt != nil {
			expires = h.TokenExpiresAt.UTC().Format("2006-01-02 15:04:05Z")
		}
		if h.LastReadSeconds != nil {
			read = seconds(*h.LastReadSeconds) + " ago"
		}
		fresh := p.good(seconds(h.TTLSeconds))
		if h.TTLSeconds < 0 {
			fresh = p.bad("stale for " + seconds(-h.TTLSeconds))
		}
		if h.RotationStuck {
			remark = p.fair("the vault holds no newer token")
		}
		t.row(h.Service, plain(h.CredentialType), fresh, expires, seconds(h.AgeSeconds), read, remark)
	}
	return t.print(a.out)
}

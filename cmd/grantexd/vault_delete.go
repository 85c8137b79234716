package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/grantexd/grantexd/upstream"
)

func (a *app) vaultDeleteCommand() *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use:     "delete ID",
		Short:   "Delete a stored credential",
		Long:    "delete removes a credential from the vault, for good. It asks first, unless --yes is given.",
		Example: "  grantexd vault delete vault_01HZX3 --yes",
		Args:    oneArg("the id of a credential"),
	}
	v := a.addVaultFlags(cmd, true)
	cmd.Flags().BoolVar(&yes, "yes", false, "don't ask")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if !yes && (!isTerminal(a.in) || v.apiKeyFile == "-") {
			return usagef("delete: there is no terminal to ask on: give --yes to delete without being asked")
		}
		return v.call(cmd.Context(), func(ctx context.Context, c *upstream.Client) error {
			if !yes {
				stored, err := c.Get(ctx, args[0])
				if err != nil {
					return err
				}
				if err := a.confirm(fmt.Sprintf("Delete the %s credential of %s? [y/N] ", plain(stored.Service), plain(stored.PrincipalID))); err != nil {
					return err
				}
			}
			if err := c.Delete(ctx, args[0]); err != nil {
				return err
			}
			if v.asJSON {
				return a.printJSON(map[string]string{"deleted": args[0]})
			}
			_, err := fmt.Fprintln(a.out, "deleted "+plain(args[0]))
			return err
		})
	}
	return cmd
}

// confirm asks a question, and fails unless the answer is yes.
func (a *app) confirm(question string) error {
	if _, err := fmt.Fprint(a.err, question); err != nil {
		return err
	}
	answer, err := bufio.NewReader(a.in).ReadString('\n')
	switch strings.ToLower(strings.TrimSpace(answer)) {
	case "y", "yes":
		return err
	}
	return errors.New("nothing was deleted")
}

package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/grantexd/grantexd/upstream"
)

func toStoredJSON(c upstream.StoredCredential) storedJSON {
	return storedJSON{
		ID: c.ID, PrincipalID: c.PrincipalID, Service: c.Service, CredentialType: c.CredentialType,
		TokenExpiresAt: vaultTime{c.TokenExpiresAt}, Metadata: c.Metadata,
		CreatedAt: vaultTime{c.CreatedAt}, UpdatedAt: vaultTime{c.UpdatedAt},
	}
}

func (a *app) vaultListCommand() *cobra.Command {
	var p upstream.ListParams
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List the stored credentials",
		Long:    "list shows what the developer has stored, newest first, without tokens.",
		Example: "  grantexd vault list --service github --json",
		Args:    noArgs,
	}
	v := a.addVaultFlags(cmd, true)
	cmd.Flags().StringVar(&p.PrincipalID, "principal-id", "", "only those of the end user with this `ID`")
	cmd.Flags().StringVar(&p.Service, "service", "", "only those of the service with this `NAME`")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return v.call(cmd.Context(), func(ctx context.Context, c *upstream.Client) error {
			list, err := c.List(ctx, p)
			if err != nil {
				return err
			}
			return a.printStored(list, v.asJSON)
		})
	}
	return cmd
}

func (a *app) printStored(list []upstream.StoredCredential, asJSON bool) error {
	if asJSON {
		out := make([]storedJSON, 0, len(list))
		for _, c := range list {
			out = append(out, toStoredJSON(c))
		}
		return a.printJSON(map[string]any{"credentials": out})
	}
	if len(list) == 0 {
		_, err := fmt.Fprintln(a.out, "no credential is stored that fits")
		return err
	}
	var t table
	t.row("ID", "PRINCIPAL", "SERVICE", "TYPE", "EXPIRES", "UPDATED")
	for _, c := range list {
		t.row(plain(c.ID), plain(c.PrincipalID), plain(c.Service), plain(c.CredentialType), moment(c.TokenExpiresAt), moment(c.UpdatedAt))
	}
	return t.print(a.out)
}

func (a *app) vaultGetCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "get ID",
		Short:   "Show a stored credential",
		Long:    "get shows what the vault tells of one credential: all but its tokens.",
		Example: "  grantexd vault get vault_01HZX3",
		Args:    oneArg("the id of a credential"),
	}
	v := a.addVaultFlags(cmd, true)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return v.call(cmd.Context(), func(ctx context.Context, c *upstream.Client) error {
			stored, err := c.Get(ctx, args[0])
			if err != nil {
				return err
			}
			if v.asJSON {
				return a.printJSON(toStoredJSON(*stored))
			}
			var t table
			t.row("id", plain(stored.ID))
			t.row("principal", plain(stored.PrincipalID))
			t.row("service", plain(stored.Service))
			t.row("type", plain(stored.CredentialType))
			t.row("expires", moment(stored.TokenExpiresAt))
			t.row("created", moment(stored.CreatedAt))
			t.row("updated", moment(stored.UpdatedAt))
			t.row("metadata", plain(string(stored.Metadata)))
			return t.print(a.out)
		})
	}
	return cmd
}

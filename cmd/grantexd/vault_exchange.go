package main

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/grantexd/grantexd/daemon/grant"
	"github.com/grantexd/grantexd/socketapi/wire"
	"github.com/grantexd/grantexd/upstream"
	"github.com/grantexd/grantexd/upstream/secret"
)

// exchangedJSON is an exchanged credential without its token.
type exchangedJSON struct {
	Service        string          `json:"service"`
	CredentialType string          `json:"credentialType"`
	TokenExpiresAt *string         `json:"tokenExpiresAt"`
	Metadata       json.RawMessage `json:"metadata"`
}

func (a *app) vaultExchangeCommand() *cobra.Command {
	var file string
	var show bool
	cmd := &cobra.Command{
		Use:   "exchange SERVICE",
		Short: "Exchange a grant token for a credential",
		Long: "exchange asks the vault itself for the credential of a service that a grant token opens.\n" +
			"It spends of the 20 exchanges a minute that this address has, past every daemon: agents use\n" +
			"\"grantexd get\". The token is only shown with --show-token.",
		Example: "  grantexd vault exchange github --grant-file ./grant",
		Args:    oneArg("the name of a service"),
	}
	v := a.addVaultFlags(cmd, false)
	cmd.Flags().StringVar(&file, "grant-file", "", "the `FILE` with the grant token, as the daemon takes it (- for standard input; required)")
	cmd.Flags().BoolVar(&show, "show-token", false, "show the access token")
	_ = cmd.MarkFlagRequired("grant-file")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		token, err := a.readGrant(file)
		if err != nil {
			return err
		}
		return v.call(cmd.Context(), false, func(ctx context.Context, c *upstream.Client) error {
			credential, err := c.Exchange(ctx, token, args[0])
			if err != nil {
				return err
			}
			return a.printExchanged(credential, v.asJSON, show)
		})
	}
	return cmd
}

// readGrant reads a grant file, bare or JSON.
func (a *app) readGrant(file string) (secret.Text, error) {
	content, err := a.readSecret(file, "--grant-file")
	if err != nil {
		return secret.Text{}, err
	}
	g, err := grant.Parse([]byte(content.Reveal()))
	if err != nil {
		return secret.Text{}, usagef("--grant-file: it is %w", err)
	}
	return g.Token, nil
}

func (a *app) printExchanged(c *upstream.Credential, asJSON, show bool) error {
	full := wire.Credential{
		AccessToken: c.AccessToken, Service: c.Service, CredentialType: c.CredentialType,
		TokenExpiresAt: c.TokenExpiresAt, Metadata: c.Metadata,
	}
	switch {
	case asJSON && show:
		return a.printJSON(full)
	case asJSON:
		out := exchangedJSON{Service: c.Service, CredentialType: c.CredentialType, Metadata: c.Metadata}
		if !c.TokenExpiresAt.IsZero() {
			expiry := c.TokenExpiresAt.UTC().Format(wire.ExpiryLayout)
			out.TokenExpiresAt = &expiry
		}
		return a.printJSON(out)
	}
	token := "not shown (--show-token)"
	if show {
		token = c.AccessToken.Reveal()
	}
	var t table
	t.row("service", plain(c.Service))
	t.row("token", token)
	t.row("type", plain(c.CredentialType))
	t.row("expires", moment(c.TokenExpiresAt))
	t.row("metadata", plain(string(c.Metadata)))
	if err := t.print(a.out); err != nil {
		return fmt.Errorf("printing the credential: %w", err)
	}
	return nil
}

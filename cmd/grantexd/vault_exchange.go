package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/grantexd/grantexd/daemon/grant"
	"github.com/grantexd/grantexd/socketapi/wire"
	"github.com/grantexd/grantexd/upstream"
)

// exchangedJSON is an exchanged credential without its token.
type exchangedJSON struct {
	Service        string          `json:"service"`
	CredentialType string          `json:"credentialType"`
	TokenExpiresAt vaultTime       `json:"tokenExpiresAt"`
	Metadata       json.RawMessage `json:"metadata"`
}

func (a *app) vaultExchangeCommand() *cobra.Command {
	var file string
	var show bool
	cmd := &cobra.Command{
		Use:   "exchange SERVICE",
		Short: "Exchange a grant token for a credential",
		Long: "exchange asks the vault itself for the credential of a service that a grant token opens.\n" +
			"It spends one of the 20 exchanges a minute that this address has, past every daemon: agents\n" +
			"use \"grantexd get\". The token is only shown with --show-token.",
		Example: "  grantexd vault exchange github --grant-file ./grant",
		Args:    oneArg("the name of a service"),
	}
	v := a.addVaultFlags(cmd, false)
	cmd.Flags().StringVar(&file, "grant-file", "", "the `FILE` with the grant token, as the daemon takes it (- for standard input; default $"+grantFileEnv+")")
	cmd.Flags().BoolVar(&show, "show-token", false, "show the access token")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		service := args[0]
		if !upstream.ValidService(service) {
			return upstream.ErrInvalidService
		}
		g, err := a.readGrant(file)
		if err != nil {
			return err
		}
		if err := checkExchange(g.Claims, service, time.Now()); err != nil {
			return err
		}
		explain := func(err error) error { return explainExchangeError(err, service) }
		return v.callAs(cmd.Context(), false, explain, func(ctx context.Context, c *upstream.Client) error {
			a.warnf("this spends one of the vault's 20 exchanges a minute, which this address shares with its daemons")
			credential, err := c.Exchange(ctx, g.Token, service)
			if err != nil {
				return err
			}
			return a.printExchanged(credential, v.asJSON, show)
		})
	}
	return cmd
}

// readGrant reads a grant file, bare or JSON; "" is the one of the environment.
func (a *app) readGrant(file string) (*grant.Grant, error) {
	what := "--grant-file"
	if file == "" {
		file, what = a.getenv(grantFileEnv), grantFileEnv
	}
	if file == "" {
		return nil, usagef("exchange: the grant token is missing: give --grant-file FILE, or set %s", grantFileEnv)
	}
	content, err := a.readSecret(file, what)
	if err != nil {
		return nil, err
	}
	g, err := grant.Parse([]byte(content.Reveal()))
	if err != nil {
		return nil, usagef("%s: it is %w", what, err)
	}
	return g, nil
}

// checkExchange refuses what the vault would refuse for certain: it counts such
// an exchange like any other. Where the token does not say, the vault is asked.
func checkExchange(claims grant.Claims, service string, now time.Time) error {
	if expiry := claims.ExpiresAt; !expiry.IsZero() && !expiry.After(now) {
		return withExit(exitRefused, fmt.Errorf("not sent: the grant token expired %s ago, at %s: get a new one; if it should be good still, check this machine's clock",
			seconds(now.Sub(expiry).Seconds()), moment(expiry)))
	}
	if claims.ScopesKnown && !upstream.MayCover(claims.Scopes, service) {
		return withExit(exitRefused, fmt.Errorf("not sent: the grant's scopes (%s) don't cover %s: %s",
			plain(strings.Join(claims.Scopes, ", ")), service, adviseScopes(service)))
	}
	return nil
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
		return a.printJSON(exchangedJSON{c.Service, c.CredentialType, vaultTime{c.TokenExpiresAt}, c.Metadata})
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

package main

import (
	"context"
	"encoding/json"
	"time"

	"github.com/spf13/cobra"

	"github.com/grantexd/grantexd/upstream"
)

// storedJSON is what the vault tells of a credential, under the names of its API.
type storedJSON struct {
	ID             string          `json:"id"`
	PrincipalID    string          `json:"principalId"`
	Service        string          `json:"service"`
	CredentialType string          `json:"credentialType"`
	TokenExpiresAt vaultTime       `json:"tokenExpiresAt"`
	Metadata       json.RawMessage `json:"metadata"`
	CreatedAt      vaultTime       `json:"createdAt"`
	UpdatedAt      vaultTime       `json:"updatedAt"`
}

// storeResultJSON is its answer to a store.
type storeResultJSON struct {
	ID             string    `json:"id"`
	PrincipalID    string    `json:"principalId"`
	Service        string    `json:"service"`
	CredentialType string    `json:"credentialType"`
	CreatedAt      vaultTime `json:"createdAt"`
}

// storeFlags are what store is given, but for what upstream.StoreParams takes as
// it is.
type storeFlags struct {
	tokenFile, refreshFile, expires, metadata string
	allowExpired                              bool
}

func (a *app) vaultStoreCommand() *cobra.Command {
	var p upstream.StoreParams
	var f storeFlags
	cmd := &cobra.Command{
		Use:   "store",
		Short: "Store a credential",
		Long: "store puts a credential into the vault, in place of the one that this principal has for\n" +
			"this service. The tokens are read from files or, one of them, from standard input: the\n" +
			"access token if --token-file is not given.",
		Example: "  gh auth token | grantexd vault store --principal-id user_dev --service github \\\n    --token-expires-at 8h --metadata '{\"login\":\"octocat\"}'",
		Args:    noArgs,
	}
	v := a.addVaultFlags(cmd, true)
	flags := cmd.Flags()
	flags.StringVar(&p.PrincipalID, "principal-id", "", "the `ID` of the end user who owns the credential (required)")
	flags.StringVar(&p.Service, "service", "", "the service's `NAME`, such as github (required)")
	flags.StringVar(&f.tokenFile, "token-file", "", "the access token, a `FILE` (- for standard input, the default unless that is a terminal)")
	flags.StringVar(&p.CredentialType, "credential-type", "", "free `TEXT`, such as oauth2 or api_key (default: the vault's)")
	flags.StringVar(&f.refreshFile, "refresh-token-file", "", "the refresh token, a `FILE` (- for standard input)")
	flags.StringVar(&f.expires, "token-expires-at", "", "when the access token ends: an ISO 8601 `TIME`, or a duration from now (8h, 30d)")
	flags.BoolVar(&f.allowExpired, "allow-expired", false, "store it even if --token-expires-at is past")
	flags.StringVar(&f.metadata, "metadata", "", "a `JSON` object to keep with it, or @FILE for a file that holds one")
	for _, name := range []string{"principal-id", "service"} {
		_ = cmd.MarkFlagRequired(name)
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) (err error) {
		if p.TokenExpiresAt, err = parseExpiry(f.expires, time.Now(), f.allowExpired); err != nil {
			return err
		}
		if p.Metadata, err = readMetadata(f.metadata); err != nil {
			return err
		}
		if !upstream.ValidService(p.Service) {
			return usagef("--service: %s", upstream.ErrInvalidService)
		}
		if err := a.readTokens(&p, v, f); err != nil {
			return err
		}
		return v.call(cmd.Context(), func(ctx context.Context, c *upstream.Client) error {
			stored, err := c.Store(ctx, p)
			if err != nil {
				return err
			}
			return a.printStoreResult(stored, v.asJSON)
		})
	}
	return cmd
}

// readTokens reads what store sends. Standard input can be read once.
func (a *app) readTokens(p *upstream.StoreParams, v *vaultFlags, f storeFlags) (err error) {
	const flag = "--token-file"
	what := flag
	if f.tokenFile == "" {
		if isTerminal(a.in) {
			return usagef("store: the access token is missing: pipe it in, or give " + flag + " FILE")
		}
		f.tokenFile, what = "-", "standard input, for want of "+flag
	}
	fromStdin := 0
	for _, file := range []string{f.tokenFile, f.refreshFile, v.apiKeyFile} {
		if file == "-" {
			fromStdin++
		}
	}
	if fromStdin > 1 {
		return usagef("only one of " + flag + " (the default), --refresh-token-file and --api-key-file can be standard input: use a file for the others")
	}
	if p.AccessToken, err = a.readSecret(f.tokenFile, what); err != nil {
		return err
	}
	if f.refreshFile != "" {
		p.RefreshToken, err = a.readSecret(f.refreshFile, "--refresh-token-file")
	}
	return err
}

func (a *app) printStoreResult(r *upstream.StoreResult, asJSON bool) error {
	if asJSON {
		return a.printJSON(storeResultJSON{
			ID: r.ID, PrincipalID: r.PrincipalID, Service: r.Service, CredentialType: r.CredentialType, CreatedAt: vaultTime{r.CreatedAt},
		})
	}
	var t table
	t.row("id", plain(r.ID))
	t.row("principal", plain(r.PrincipalID))
	t.row("service", plain(r.Service))
	t.row("type", plain(r.CredentialType))
	t.row("created", moment(r.CreatedAt))
	return t.print(a.out)
}

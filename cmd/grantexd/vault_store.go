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
	TokenExpiresAt *time.Time      `json:"tokenExpiresAt"`
	Metadata       json.RawMessage `json:"metadata"`
	CreatedAt      time.Time       `json:"createdAt"`
	UpdatedAt      time.Time       `json:"updatedAt"`
}

// storeResultJSON is its answer to a store.
type storeResultJSON struct {
	ID             string    `json:"id"`
	PrincipalID    string    `json:"principalId"`
	Service        string    `json:"service"`
	CredentialType string    `json:"credentialType"`
	CreatedAt      time.Time `json:"createdAt"`
}

func (a *app) vaultStoreCommand() *cobra.Command {
	var p upstream.StoreParams
	var tokenFile, refreshFile, expires, metadata string
	cmd := &cobra.Command{
		Use:   "store",
		Short: "Store a credential",
		Long: "store puts a credential into the vault, in place of the one that this principal has for\n" +
			"this service. The tokens are read from files or, one of them, from standard input.",
		Example: "  gh auth token | grantexd vault store --principal-id user_dev --service github \\\n    --token-file - --token-expires-at 8h --metadata '{\"login\":\"octocat\"}'",
		Args:    noArgs,
	}
	v := a.addVaultFlags(cmd, true)
	flags := cmd.Flags()
	flags.StringVar(&p.PrincipalID, "principal-id", "", "the `ID` of the end user who owns the credential (required)")
	flags.StringVar(&p.Service, "service", "", "the service's `NAME`, such as github (required)")
	flags.StringVar(&tokenFile, "token-file", "", "the access token, a `FILE` (- for standard input; required)")
	flags.StringVar(&p.CredentialType, "credential-type", "", "free `TEXT`, such as oauth2 or api_key (default: the vault's)")
	flags.StringVar(&refreshFile, "refresh-token-file", "", "the refresh token, a `FILE` (- for standard input)")
	flags.StringVar(&expires, "token-expires-at", "", "when the access token ends: an ISO 8601 `TIME`, or a duration from now (8h, 30d)")
	flags.StringVar(&metadata, "metadata", "", "a `JSON` object to keep with it")
	for _, name := range []string{"principal-id", "service", "token-file"} {
		_ = cmd.MarkFlagRequired(name)
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) (err error) {
		if p.TokenExpiresAt, err = parseExpiry(expires, time.Now()); err != nil {
			return err
		}
		if metadata != "" {
			var object map[string]any
			if json.Unmarshal([]byte(metadata), &object) != nil || object == nil {
				return usagef(`--metadata must be a JSON object, such as '{"login":"octocat"}'`)
			}
			p.Metadata = json.RawMessage(metadata)
		}
		if !upstream.ValidService(p.Service) {
			return usagef("--service: %s", upstream.ErrInvalidService)
		}
		if err := a.readTokens(&p, v, tokenFile, refreshFile); err != nil {
			return err
		}
		return v.call(cmd.Context(), true, func(ctx context.Context, c *upstream.Client) error {
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
func (a *app) readTokens(p *upstream.StoreParams, v *vaultFlags, tokenFile, refreshFile string) (err error) {
	fromStdin := 0
	for _, file := range []string{tokenFile, refreshFile, v.apiKeyFile} {
		if file == "-" {
			fromStdin++
		}
	}
	if fromStdin > 1 {
		return usagef("only one of --token-file, --refresh-token-file and --api-key-file can be standard input: use a file for the others")
	}
	if p.AccessToken, err = a.readSecret(tokenFile, "--token-file"); err != nil {
		return err
	}
	if refreshFile != "" {
		p.RefreshToken, err = a.readSecret(refreshFile, "--refresh-token-file")
	}
	return err
}

func (a *app) printStoreResult(r *upstream.StoreResult, asJSON bool) error {
	if asJSON {
		return a.printJSON(storeResultJSON(*r))
	}
	var t table
	t.row("id", plain(r.ID))
	t.row("principal", plain(r.PrincipalID))
	t.row("service", plain(r.Service))
	t.row("type", plain(r.CredentialType))
	t.row("created", moment(r.CreatedAt))
	return t.print(a.out)
}

// moment writes a time for people, in their zone.
func moment(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return t.Local().Format("2006-01-02 15:04:05 MST")
}

package main

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/grantexd/grantexd/daemon"
	"github.com/grantexd/grantexd/upstream"
	"github.com/grantexd/grantexd/upstream/secret"
)

// apiKeyEnv is the environment variable of the developer's API key, as the
// official SDKs call it.
const apiKeyEnv = "GRANTEX_API_KEY"

// The environment variables that stand in for flags are those of the daemon, so
// that one environment does for both.
const (
	upstreamEnv  = daemon.EnvPrefix + "UPSTREAM"
	caFileEnv    = daemon.EnvPrefix + "CA_FILE"
	grantFileEnv = daemon.EnvPrefix + "GRANT_FILE"
)

// vaultFlags say which vault to call, and as whom.
type vaultFlags struct {
	app                     *app
	url, caFile, apiKeyFile string
	timeout                 time.Duration
	asJSON                  bool
}

func (a *app) vaultCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "vault",
		Short: "Store, list and delete credentials in the vault",
		Long: "vault is for the developer who fills the vault: it calls the vault itself, not the daemon.\n" +
			"The developer's API key comes from --api-key-file or $" + apiKeyEnv + ", tokens from files or\n" +
			"standard input (-), never from the command line, where every process could read them.\n" +
			"As for the daemon, " + upstreamEnv + " and " + caFileEnv + " say which vault it is.",
		Example: "  grantexd vault list --principal-id user_dev --api-key-file ./api-key",
		Args:    subcommandArgs,
		RunE:    showHelp,
	}
	cmd.AddCommand(a.vaultStoreCommand(), a.vaultListCommand(), a.vaultGetCommand(), a.vaultDeleteCommand(), a.vaultExchangeCommand())
	return cmd
}

// addVaultFlags adds the flags that all calls of the vault have.
func (a *app) addVaultFlags(cmd *cobra.Command, needsKey bool) *vaultFlags {
	v := &vaultFlags{app: a}
	flags := cmd.Flags()
	flags.StringVar(&v.url, "upstream", "", "the vault's `URL` without /v1 (default $"+upstreamEnv+", else "+daemon.DefaultUpstream+")")
	flags.StringVar(&v.caFile, "ca-file", "", "certificates (PEM) to trust besides the system's, a `FILE` (default $"+caFileEnv+")")
	flags.DurationVar(&v.timeout, "timeout", 30*time.Second, "give up after `DURATION`")
	flags.BoolVar(&v.asJSON, "json", false, "print JSON")
	if needsKey {
		flags.StringVar(&v.apiKeyFile, "api-key-file", "", "the developer's API key, a `FILE` (- for standard input; default $"+apiKeyEnv+")")
	}
	return v
}

// client returns a client of the vault. The exchange takes no API key.
func (v *vaultFlags) client(needsKey bool) (*upstream.Client, error) {
	var key secret.Text
	if needsKey {
		var err error
		if key, err = v.apiKey(); err != nil {
			return nil, err
		}
	}
	c, err := upstream.New(upstream.Options{
		BaseURL: cmp.Or(v.url, v.app.getenv(upstreamEnv), daemon.DefaultUpstream), APIKey: key,
		CAFile: cmp.Or(v.caFile, v.app.getenv(caFileEnv)), UserAgent: "grantexd/" + build().Version,
	})
	if err != nil {
		return nil, withExit(exitUsage, fmt.Errorf("vault: %w", err))
	}
	return c, nil
}

func (v *vaultFlags) apiKey() (secret.Text, error) {
	if v.apiKeyFile != "" {
		return v.app.readSecret(v.apiKeyFile, "--api-key-file")
	}
	if key := v.app.getenv(apiKeyEnv); key != "" {
		return secret.New(key), nil
	}
	return secret.Text{}, usagef("vault: the developer's API key is missing: give --api-key-file FILE, or set %s", apiKeyEnv)
}

// call calls the vault with the API key, within the timeout.
func (v *vaultFlags) call(ctx context.Context, do func(context.Context, *upstream.Client) error) error {
	return v.callAs(ctx, true, explainDeveloperError, do)
}

// callAs calls the vault; explain adds to an error what to do about it.
func (v *vaultFlags) callAs(ctx context.Context, needsKey bool, explain func(error) error, do func(context.Context, *upstream.Client) error) error {
	if v.timeout <= 0 {
		return usagef("--timeout must be above 0")
	}
	c, err := v.client(needsKey)
	if err != nil {
		return err
	}
	defer c.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(ctx, v.timeout)
	defer cancel()
	return explain(do(ctx, c))
}

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"github.com/grantexd/grantexd/daemon"
	"github.com/grantexd/grantexd/upstream/devvault"
	"github.com/grantexd/grantexd/upstream/secret"
)

// Where devvault listens unless it is told otherwise, and where mint and revoke
// look for it.
const (
	defaultVaultAddress = "127.0.0.1:8470"
	defaultAdminAddress = "127.0.0.1:8471"
)

// devvaultOptions are the flags of devvault.
type devvaultOptions struct {
	listen, admin, apiKeyFile string
	rateBy                    string
	seed                      bool
	log                       daemon.LogConfig
	vault                     devvault.Options
}

func (a *app) devvaultCommand() *cobra.Command {
	var o devvaultOptions
	cmd := &cobra.Command{
		Use:   "devvault",
		Short: "Run an embedded vault, for development and tests",
		Long: "devvault answers as the hosted vault does: all five calls, grant tokens that it makes and\n" +
			"verifies, the limit of 20 exchanges a minute. Through its admin API it makes and revokes\n" +
			"grants (see devvault mint and revoke) and misbehaves on request. Without --data it forgets\n" +
			"all when it ends; with it, everything in the file is encrypted.",
		Example: "  grantexd devvault --data ./vault.db --api-key-file ./api-key --seed",
		Args:    subcommandArgs,
	}
	flags := cmd.Flags()
	flags.StringVar(&o.listen, "listen", defaultVaultAddress, "the vault's `ADDR` (host:port; port 0 is any free one)")
	flags.StringVar(&o.admin, "admin", defaultAdminAddress, "the admin API's `ADDR`, a loopback one; \"\" for none")
	flags.StringVar(&o.vault.DataFile, "data", "", "keep everything in this `FILE`, encrypted")
	flags.StringVar(&o.vault.KeyFile, "key-file", "", "the `FILE` with the key of --data (default: devvault.key in $CREDENTIALS_DIRECTORY, else DATA.key, made 0600)")
	flags.StringVar(&o.apiKeyFile, "api-key-file", "", "the developer's API key: read from this `FILE`, or written to it, 0600, if it is missing (default $"+apiKeyEnv+", else a random one)")
	flags.BoolVar(&o.seed, "seed", false, "store made-up credentials for github and slack")
	flags.IntVar(&o.vault.RateLimit, "rate-limit", devvault.DefaultRateLimit, "let this `NUMBER` of exchanges through in a window; -1 for all")
	flags.DurationVar(&o.vault.RateWindow, "rate-window", devvault.DefaultRateWindow, "the window's `DURATION`")
	flags.StringVar(&o.rateBy, "rate-by", string(devvault.RateByAddress), "whose exchanges share a window: `address`, as the service does, or token, as it documents")
	flags.BoolVar(&o.vault.NoDeveloperLimits, "no-developer-limits", false, "don't limit the developer's calls")
	flags.BoolVar(&o.vault.MetadataAsObject, "metadata-as-object", false, "send metadata as documented, and not as a string, as the service does")
	flags.BoolVar(&o.vault.AllowRemoteAdmin, "allow-remote-admin", false, "let other machines use the admin API, which gives out everything")
	flags.StringVar(&o.log.Level, "log-level", "info", "`LEVEL`: debug, info, warn or error")
	flags.StringVar(&o.log.Format, "log-format", "text", "`FORMAT`: text or json")
	_ = cmd.RegisterFlagCompletionFunc("rate-by", cobra.FixedCompletions([]cobra.Completion{"address", "token"}, cobra.ShellCompDirectiveNoFileComp))
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return a.devvault(cmd.Context(), o) }
	cmd.AddCommand(a.mintCommand(), a.revokeCommand())
	return cmd
}

// devvault runs the vault until a signal.
func (a *app) devvault(ctx context.Context, o devvaultOptions) (err error) {
	if err := o.check(); err != nil {
		return err
	}
	var write bool
	if o.vault.APIKey, write, err = a.developerKey(o.apiKeyFile); err != nil {
		return err
	}
	o.vault.RateBy = devvault.RateBy(o.rateBy)
	o.vault.CredentialsDir = a.getenv("CREDENTIALS_DIRECTORY")
	o.vault.Logger = daemon.NewLogger(a.err, o.log, nil)
	vault, err := devvault.New(o.vault)
	if err != nil {
		return fmt.Errorf("devvault: %w", err)
	}
	defer func() { err = errors.Join(err, vault.Close()) }()
	if write {
		if err := createSecret(o.apiKeyFile, []byte(vault.APIKey().Reveal()+"\n")); err != nil {
			return fmt.Errorf("--api-key-file: %w", err)
		}
	}
	if o.seed {
		if err := vault.Seed(); err != nil {
			return err
		}
	}
	server, err := listenVault(vault, o.listen, o.admin)
	if err != nil {
		return err
	}
	if err := a.printAddresses(server, o); err != nil {
		return err
	}
	return untilSignal(ctx, server.run)
}

// check refuses what can be refused before anything is made.
func (o *devvaultOptions) check() error {
	switch devvault.RateBy(o.rateBy) {
	case devvault.RateByAddress, devvault.RateByToken:
	default:
		return usagef("--rate-by must be address or token: see grantexd devvault --help")
	}
	if o.vault.RateLimit == 0 {
		return usagef("--rate-limit must be 1 or more, or -1 for no limit: see grantexd devvault --help")
	}
	if o.vault.RateWindow <= 0 {
		return usagef("--rate-window must be above 0: see grantexd devvault --help")
	}
	if o.admin == "" || o.vault.AllowRemoteAdmin {
		return nil
	}
	if err := devvault.CheckAdminAddress(o.admin); err != nil {
		return withExit(exitUsage, fmt.Errorf("--admin: %w", err))
	}
	return nil
}

// developerKey returns the API key that was given, and whether the one that the
// vault makes up is to be written to the file.
func (a *app) developerKey(file string) (key secret.Text, write bool, err error) {
	if file == "" {
		return secret.New(a.getenv(apiKeyEnv)), false, nil
	}
	if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) {
		return secret.New(a.getenv(apiKeyEnv)), true, nil
	}
	key, err = a.readSecret(file, "--api-key-file")
	return key, false, err
}

// printAddresses says where the vault is, in lines that scripts can read.
func (a *app) printAddresses(s *vaultServer, o devvaultOptions) error {
	var t table
	t.row("vault", listenerURL(s.public))
	if s.admin != nil {
		t.row("admin", listenerURL(s.admin))
	}
	if o.apiKeyFile != "" {
		t.row("api-key-file", o.apiKeyFile)
	}
	return t.print(a.out)
}

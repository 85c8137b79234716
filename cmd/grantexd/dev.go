package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/grantexd/grantexd/daemon"
	"github.com/grantexd/grantexd/upstream/devvault"
)

// devOptions are the flags of dev.
type devOptions struct {
	socket, admin, listenTCP, logLevel, logFormat string
}

func (a *app) devCommand() *cobra.Command {
	var o devOptions
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Run a daemon on an embedded vault, to try it",
		Long: "dev runs a vault and a daemon in one process until it is stopped. The vault holds made-up\n" +
			"credentials for github and slack. Grant file and state are in a directory of their own\n" +
			"that is removed at the end; no configuration file is read.",
		Example: "  grantexd dev --socket ./grantexd.sock",
		Args:    noArgs,
	}
	flags := cmd.Flags()
	flags.StringVar(&o.socket, "socket", "", "the Unix socket's `PATH` (default $GRANTEXD_SOCKET, or that of serve)")
	flags.StringVar(&o.listenTCP, "listen-tcp", "", "also listen on this loopback `ADDR` (host:port), for SDKs that can't use a socket")
	flags.StringVar(&o.admin, "admin", "127.0.0.1:0", "the `ADDR` of the vault's admin API (see devvault); port 0 is any free one")
	flags.StringVar(&o.logLevel, "log-level", "warn", "`LEVEL`: debug, info, warn or error")
	flags.StringVar(&o.logFormat, "log-format", "text", "`FORMAT`: text or json")
	cmd.RunE = func(cmd *cobra.Command, _ []string) (err error) {
		dir, err := os.MkdirTemp("", "grantexd-dev-") // made 0700
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
		return untilSignal(cmd.Context(), func(ctx context.Context) error { return a.dev(ctx, o, dir) })
	}
	return cmd
}

// dev runs vault and daemon with their files in dir.
func (a *app) dev(ctx context.Context, o devOptions, dir string) (err error) {
	if err := devvault.CheckAdminAddress(o.admin); err != nil {
		return withExit(exitUsage, err)
	}
	vault, err := devvault.New(devvault.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, vault.Close()) }()
	if err := vault.Seed(); err != nil {
		return err
	}
	grantFile := filepath.Join(dir, "grant")
	token, _, err := vault.Mint(devvault.MintParams{})
	if err != nil {
		return err
	}
	err = errors.Join(createSecret(grantFile, []byte(token.Reveal()+"\n")),
		createSecret(filepath.Join(dir, "api-key"), []byte(vault.APIKey().Reveal()+"\n")))
	if err != nil {
		return err
	}
	server, err := listenVault(vault, "127.0.0.1:0", o.admin)
	if err != nil {
		return err
	}
	read := func() (*daemon.Config, []daemon.Warning, error) {
		return a.loadDev(o, dir, listenerURL(server.public))
	}
	stop, stopVault := context.WithCancel(context.WithoutCancel(ctx))
	defer stopVault()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return server.run(stop) })
	group.Go(func() error {
		defer stopVault() // only when the daemon has drained
		return a.serve(ctx, read, func(addresses []string) { a.greet(o, dir, server, addresses) })
	})
	return group.Wait()
}

// loadDev makes the daemon's configuration. Nothing of the host's own has a say
// in it but the socket, or somebody's real grant could end up here.
func (a *app) loadDev(o devOptions, dir, vault string) (*daemon.Config, []daemon.Warning, error) {
	var env []string
	for _, entry := range a.env {
		if !strings.HasPrefix(entry, daemon.EnvPrefix) || strings.HasPrefix(entry, "GRANTEXD_SOCKET=") {
			env = append(env, entry)
		}
	}
	flags := map[string]string{
		"grant-file": filepath.Join(dir, "grant"), "upstream": vault, "state-dir": filepath.Join(dir, "state"),
		"log-level": o.logLevel, "log-format": o.logFormat,
	}
	if o.socket != "" {
		flags["socket"] = o.socket
	}
	if o.listenTCP != "" {
		flags["listen-tcp"] = o.listenTCP
	}
	config, warnings, err := daemon.Load(daemon.LoadOptions{
		Flags: flags, Env: env, DefaultFile: filepath.Join(dir, "no-config.yaml"), UID: os.Geteuid(),
	})
	if err != nil {
		return nil, warnings, withExit(exitUsage, err)
	}
	return config, warnings, nil
}

// greet says how to use it, once it answers.
func (a *app) greet(o devOptions, dir string, server *vaultServer, addresses []string) {
	socket := o.socket // as it was written: that is what works from where it was started
	if socket == "" {
		socket = addresses[0]
	}
	socket = quoted(socket)
	self := calledAs(os.Args[0])
	var b strings.Builder
	fmt.Fprintf(&b, "Vault and daemon are up. Ctrl-C stops both and leaves nothing behind. In another terminal:\n\n"+
		"  curl --unix-socket %s http://localhost/v1/credentials/github\n"+
		"  %s get slack --socket %s\n"+
		"  %s status --socket %s\n\n", socket, self, socket, self, socket)
	var t table
	t.row("vault", listenerURL(server.public))
	t.row("admin", listenerURL(server.admin), "("+self+" devvault revoke --help)")
	t.row("grant", filepath.Join(dir, "grant"), "(remove it, and credentials stop within 3 s)")
	t.row("API key", filepath.Join(dir, "api-key"), "(for "+self+" vault --upstream … --api-key-file)")
	for _, address := range addresses[1:] {
		t.row("tcp", "http://"+address, "(the token that it wants is in "+addresses[0]+".token)")
	}
	_ = t.print(&b)
	_, _ = fmt.Fprint(a.out, b.String())
}

// builtByGoRun is where "go run" puts what it builds: a temporary directory, or
// the build cache (go help cache).
var builtByGoRun = regexp.MustCompile(`/go-build[0-9]*/|/[0-9a-f]{64}-d/[^/]+$`)

// calledAs is how the user calls this program, which was started as path.
func calledAs(path string) string {
	if builtByGoRun.MatchString(path) {
		return "go run ./cmd/grantexd"
	}
	return "grantexd"
}

// quoted is a word for a shell, in quotes if it needs any.
func quoted(word string) string {
	safe := !strings.ContainsFunc(word, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("./_-+:@%,=", r)
	})
	if safe && word != "" {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/grantexd/grantexd/daemon"
	"github.com/grantexd/grantexd/socketapi/client"
)

// stdio are the standard streams.
type stdio struct {
	in       io.Reader
	out, err io.Writer
}

// app is what all commands share.
type app struct {
	stdio
	env []string
	// restoreCore gives core dumps back to the command that exec starts.
	restoreCore func() error
	// started says that the command line was good enough to start a command.
	started bool
}

// run runs the command that args name and returns the exit code.
func run(ctx context.Context, args, env []string, streams stdio) int {
	a := &app{stdio: streams, env: env}
	var err error
	if a.restoreCore, err = harden(); err == nil {
		err = a.execute(ctx, args)
	}
	if err != nil {
		a.report(err)
	}
	return exitCodeOf(err)
}

func (a *app) execute(ctx context.Context, args []string) error {
	root := a.rootCommand()
	root.SetArgs(args)
	root.SetIn(a.in)
	root.SetOut(a.out)
	root.SetErr(a.err)
	a.noteStarts(root)
	cmd, err := root.ExecuteContextC(ctx)
	var own *exitError
	if err != nil && !a.started && !errors.As(err, &own) {
		// What cobra itself refuses: a required flag that is missing, two that
		// don't go together.
		message, _, _ := strings.Cut(err.Error(), "\n")
		return usagef("%s: see %s --help", message, cmd.CommandPath())
	}
	return err
}

// noteStarts makes every command note that it was started.
func (a *app) noteStarts(cmd *cobra.Command) {
	if work := cmd.RunE; work != nil {
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			a.started = true
			return work(cmd, args)
		}
	}
	for _, c := range cmd.Commands() {
		a.noteStarts(c)
	}
}

// report prints an error, each line of which begins with the program's name.
func (a *app) report(err error) {
	for line := range strings.SplitSeq(err.Error(), "\n") {
		_, _ = fmt.Fprintln(a.err, "grantexd: "+line)
	}
}

// warnf tells on standard error what a person should look at.
func (a *app) warnf(format string, args ...any) {
	_, _ = fmt.Fprintf(a.err, "grantexd: warning: "+format+"\n", args...)
}

// rootCommand puts the commands together, in the order in which help shows them.
func (a *app) rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "grantexd",
		Short: "Hand an agent's credentials to local processes",
		Long: "grantexd holds an agent's Grantex grant token and hands the credentials that it opens,\n" +
			"a GitHub token or a Slack token, to local processes that may have them.",
		Example:       "  grantexd dev --socket ./grantexd.sock\n  grantexd get github --socket ./grantexd.sock",
		Args:          subcommandArgs,
		RunE:          showHelp,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	cobra.EnableCommandSorting = false
	root.AddGroup(
		&cobra.Group{ID: "use", Title: "Get credentials:"},
		&cobra.Group{ID: "look", Title: "Look at the daemon:"},
		&cobra.Group{ID: "run", Title: "Run it:"},
		&cobra.Group{ID: "vault", Title: "Fill the vault:"},
	)
	add := func(group string, commands ...*cobra.Command) {
		for _, c := range commands {
			c.GroupID = group
			root.AddCommand(c)
		}
	}
	add("use", a.getCommand(), a.execCommand(), a.listCommand())
	add("look", a.statusCommand(), a.explainCommand(), a.waitCommand(), a.checkCommand())
	add("run", a.serveCommand(), a.reloadCommand(), a.devCommand(), a.devvaultCommand())
	add("vault", a.vaultCommand())
	root.AddCommand(a.versionCommand(), a.manCommand(), exitCodesTopic(), configTopic())
	root.Version = build().Version
	root.SetVersionTemplate(build().line())
	root.Flags().Bool("version", false, "print the version") // or cobra would add -v too
	root.InitDefaultHelpCmd()
	if help, _, err := root.Find([]string{"help"}); err == nil {
		help.Args = topicArgs
	}
	root.InitDefaultCompletionCmd()
	root.SetFlagErrorFunc(flagError)
	return root
}

// showHelp is what a command does that only groups others.
func showHelp(cmd *cobra.Command, _ []string) error { return cmd.Help() }

// subcommandArgs refuses what is no subcommand, with a suggestion.
func subcommandArgs(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	near := "see " + cmd.CommandPath() + " --help"
	if name := nearestOf(args[0], commandNames(cmd)); name != "" {
		near = "did you mean " + cmd.CommandPath() + " " + name + "?"
	}
	return usagef("%s: there is no such command: %s", shown(args[0]), near)
}

// shown is a word of the command line for an error, unless it looks like a secret
// that was pasted there: errors end up in logs.
func shown(word string) string {
	odd := strings.ContainsFunc(word, func(r rune) bool { return (r < 'a' || r > 'z') && r != '-' })
	if odd || len(word) > 24 {
		return "the given word"
	}
	return word
}

// noArgs refuses arguments.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usagef("%s takes no argument: see %s --help", cmd.Name(), cmd.CommandPath())
	}
	return nil
}

// oneArg demands exactly one argument, called what.
func oneArg(what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != 1 {
			return usagef("%s takes one argument, %s: see %s --help", cmd.Name(), what, cmd.CommandPath())
		}
		return nil
	}
}

// socketFlag adds --socket to a command that asks a daemon.
func socketFlag(cmd *cobra.Command) *string {
	return cmd.Flags().String("socket", "", "the daemon's `PATH` (default $GRANTEXD_SOCKET, the user's own, or "+client.SystemSocket+")")
}

// getenv reads the environment that the command was given.
func (a *app) getenv(name string) string {
	for _, entry := range a.env {
		if value, ok := strings.CutPrefix(entry, name+"="); ok {
			return value
		}
	}
	return ""
}

// daemonClient returns a client of the daemon at socket, "" for the default.
func (a *app) daemonClient(socket string) *client.Client {
	if socket == "" {
		socket = a.getenv(client.SocketEnv)
	}
	return &client.Client{Socket: socket}
}

// load reads the configuration.
func (a *app) load(file string, flags map[string]string) (*daemon.Config, []daemon.Warning, error) {
	config, warnings, err := daemon.Load(daemon.LoadOptions{Flags: flags, Env: a.env, File: file, UID: os.Geteuid()})
	if err != nil {
		return nil, warnings, withExit(exitUsage, err)
	}
	return config, warnings, nil
}

// completeServices completes the name of a service from what the daemon holds.
func (a *app) completeServices(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	socket, _ := cmd.Flags().GetString("socket")
	list, err := a.daemonClient(socket).List(cmd.Context())
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []string
	for _, held := range list.Credentials {
		names = append(names, held.Service)
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

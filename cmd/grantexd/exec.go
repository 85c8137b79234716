package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/grantexd/grantexd/daemon"
	"github.com/grantexd/grantexd/socketapi/client"
	"github.com/grantexd/grantexd/socketapi/wire"
)

func (a *app) execCommand() *cobra.Command {
	var assignments []string
	var wait time.Duration
	cmd := &cobra.Command{
		Use:   "exec --env NAME=SERVICE -- COMMAND …",
		Short: "Run a command with credentials in its environment",
		Long: "exec gets the credentials, puts them into environment variables and becomes the command.\n" +
			"If one can't be had, the command is not started. NAME=SERVICE is the token;\n" +
			"NAME=SERVICE.metadata.login and such are other fields (see grantexd get --help).\n\n" +
			"The command gets no open files but the standard three, and no GRANTEXD_* and\n" +
			"GRANTEX_API_KEY. It keeps the token that it was started with: what runs for longer than\n" +
			"a token lives asks the socket itself.",
		Example: "  grantexd exec --env GH_TOKEN=github -- gh repo list",
	}
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return usagef("exec needs a command after --: see grantexd exec --help")
		}
		return nil
	}
	cmd.Flags().SetInterspersed(false) // the command's flags are its own
	socket := socketFlag(cmd)
	cmd.Flags().StringArrayVar(&assignments, "env", nil, "set the variable NAME to a token: `NAME=SERVICE` or NAME=SERVICE.FIELD (repeatable)")
	cmd.Flags().DurationVar(&wait, "wait", 0, "wait up to `DURATION` for each, 60s at most (default: the daemon's, 10s)")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		variables, err := parseAssignments(assignments)
		if err != nil {
			return err
		}
		if err := checkWait(cmd, "wait", wait); err != nil {
			return err
		}
		path, err := lookUp(args[0])
		if err != nil {
			return err
		}
		values, err := a.fetch(cmd.Context(), *socket, variables, wait)
		if err != nil {
			return err
		}
		return a.become(path, args, environ(a.env, values))
	}
	return cmd
}

// variable is an environment variable for the command.
type variable struct{ name, service, field string }

// parseAssignments reads the values of --env.
func parseAssignments(assignments []string) ([]variable, error) {
	if len(assignments) == 0 {
		return nil, usagef("exec needs at least one --env NAME=SERVICE: see grantexd exec --help")
	}
	var out []variable
	for _, assignment := range assignments {
		name, source, ok := strings.Cut(assignment, "=")
		v := variable{name: name}
		v.service, v.field = splitField(source)
		switch {
		case !ok || source == "":
			return nil, usagef("--env takes NAME=SERVICE, such as GH_TOKEN=github: see grantexd exec --help")
		case !validName(name):
			return nil, usagef("--env: a variable's name has letters, digits and underscores, and no digit first: " +
				"see grantexd exec --help")
		case withheld(name):
			return nil, usagef("--env: %s is not passed on: choose another name", name)
		case slices.ContainsFunc(out, func(o variable) bool { return o.name == name }):
			return nil, usagef("--env: %s is set twice: remove one of them", name)
		}
		out = append(out, v)
	}
	return out, nil
}

// validName reports whether a shell could use a variable of this name (POSIX,
// Environment Variables).
func validName(name string) bool {
	for i, r := range name {
		letter := r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z' || r == '_'
		if !letter && (i == 0 || r < '0' || r > '9') {
			return false
		}
	}
	return name != ""
}

// lookUp finds the command before anything is asked for in vain.
func lookUp(command string) (string, error) {
	path, err := exec.LookPath(command)
	switch {
	case err == nil:
		return path, nil
	case errors.Is(err, exec.ErrNotFound), errors.Is(err, fs.ErrNotExist):
		return "", withExit(exitNoCommand, fmt.Errorf("exec: %s: there is no such command: check its name and $PATH", shown(command)))
	}
	return "", withExit(exitCannotRun, fmt.Errorf("exec: the command can't be run: %w", reason(err)))
}

// reason is the innermost error, without the names around it.
func reason(err error) error {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err
		}
		err = inner
	}
}

// fetch gets all that the variables need, at once. Its error names every service
// that could not be had.
func (a *app) fetch(ctx context.Context, socket string, variables []variable, wait time.Duration) ([]string, error) {
	c := a.daemonClient(socket)
	defer c.CloseIdleConnections()
	type result struct {
		credential *wire.Credential
		err        error
	}
	results := map[string]*result{}
	var group sync.WaitGroup
	for _, v := range variables {
		if results[v.service] != nil {
			continue
		}
		r := &result{}
		results[v.service] = r
		group.Go(func() { r.credential, _, r.err = c.Get(ctx, v.service, client.GetOptions{Wait: wait}) })
	}
	group.Wait()
	var values []string
	var errs []error
	for _, v := range variables {
		r := results[v.service]
		err := r.err
		value := ""
		if err == nil {
			value, err = fieldOf(r.credential, v.field)
		}
		if err == nil && strings.IndexByte(value, 0) >= 0 {
			err = errors.New("it holds a NUL, which no environment variable can: use the socket instead")
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("exec: %s for %s: %w", v.service, v.name, err))
		}
		values = append(values, v.name+"="+value)
	}
	if len(errs) > 0 {
		// The first one decides the exit code.
		return nil, withExit(exitCodeOf(errs[0]), errors.Join(errs...))
	}
	return values, nil
}

// environ is the command's environment: ours without what is not its business,
// and with values.
func environ(env, values []string) []string {
	var out []string
	for _, entry := range env {
		name, _, _ := strings.Cut(entry, "=")
		replaced := slices.ContainsFunc(values, func(v string) bool { return strings.HasPrefix(v, name+"=") })
		if !withheld(name) && !replaced {
			out = append(out, entry)
		}
	}
	return append(out, values...)
}

// withheld reports whether a variable is ours, or a secret of the developer's, or
// speaks of descriptors that are not passed on (sd_listen_fds(3)).
func withheld(name string) bool {
	switch name {
	case apiKeyEnv, "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PID", "LISTEN_PIDFDID":
		return true
	}
	return strings.HasPrefix(name, daemon.EnvPrefix)
}

// become replaces this process by the command.
func (a *app) become(path string, args, env []string) error {
	if err := closeOnExec(); err != nil {
		return fmt.Errorf("exec: keeping open files from the command: %w", err)
	}
	if err := a.restoreCore(); err != nil {
		return fmt.Errorf("exec: giving back the limit on core dumps: %w", err)
	}
	err := syscall.Exec(path, args, env) //nolint:gosec // to run what the caller says is its purpose
	return withExit(exitCannotRun, fmt.Errorf("exec: the command can't be run: %w", err))
}

// closeOnExec keeps every descriptor above standard error from the command, also
// such as we inherited.
func closeOnExec() error {
	err := unix.CloseRange(3, ^uint(0)>>1, unix.CLOSE_RANGE_CLOEXEC)
	if !errors.Is(err, unix.ENOSYS) && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.EPERM) {
		return err
	}
	// Linux before 5.11, or a seccomp filter that does not know the call.
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return err
	}
	for _, e := range entries {
		if fd, err := strconv.Atoi(e.Name()); err == nil && fd > 2 {
			unix.CloseOnExec(fd) // one that is closed by now needs nothing
		}
	}
	return nil
}

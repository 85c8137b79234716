package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/grantexd/grantexd/socketapi/client"
)

func (a *app) reloadCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "reload",
		Short: "Make the daemon read its configuration anew",
		Long: "reload sends SIGHUP to the daemon that made the socket. It takes over the keys that\n" +
			"\"grantexd help config\" marks, access rules among them; a configuration with a mistake\n" +
			"changes nothing, and its log says so. Under systemd use systemctl reload grantexd.",
		Example: "  grantexd check && grantexd reload",
		Args:    noArgs,
	}
	socket := socketFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		path := *socket
		if path == "" {
			path = a.getenv(client.SocketEnv)
		}
		if path == "" {
			path = client.DefaultSocket()
		}
		pid, err := daemonOf(cmd.Context(), path)
		if err != nil {
			return err
		}
		if err := syscall.Kill(pid, syscall.SIGHUP); err != nil {
			return withExit(exitRefused, fmt.Errorf("reload: signalling process %d: %w: do it as its user or as root", pid, err))
		}
		_, err = fmt.Fprintf(a.out, "told process %d to read its configuration anew; its log says how that went\n", pid)
		return err
	}
	return cmd
}

// daemonOf returns the process that made the socket and listens on it now. Its
// lock names it, and the kernel vouches for that: a lock that was left behind may
// name a stranger by now.
func daemonOf(ctx context.Context, socket string) (int, error) {
	listening, err := listeningProcess(ctx, socket)
	if err != nil {
		return 0, err
	}
	content, err := os.ReadFile(socket + ".lock")
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return 0, errors.New("reload: the daemon did not make this socket, the service manager did: " +
			"use systemctl reload grantexd (grantexd@NAME for an instance, --user for a user's)")
	case err != nil:
		return 0, withExit(exitRefused, fmt.Errorf("reload: %w: do it as the daemon's user or as root", err))
	}
	locked, err := strconv.Atoi(strings.TrimSpace(string(content)))
	if err != nil || locked <= 1 || locked != listening {
		return 0, fmt.Errorf("reload: the lock %s.lock does not name the process that listens (in another container?): "+
			"send SIGHUP to the daemon yourself", socket)
	}
	return locked, nil
}

// listeningProcess connects and asks the kernel who listens (SO_PEERCRED in
// unix(7)).
func listeningProcess(ctx context.Context, socket string) (int, error) {
	// Health connects as every command does, with its hints on what is wrong.
	c := &client.Client{Socket: socket}
	defer c.CloseIdleConnections()
	if err := c.Health(ctx); err != nil {
		return 0, err
	}
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "unix", socket)
	if err != nil {
		return 0, err
	}
	defer func() { _ = conn.Close() }()
	raw, err := conn.(*net.UnixConn).SyscallConn()
	if err != nil {
		return 0, err
	}
	var credentials *unix.Ucred
	var failure error
	if err := raw.Control(func(fd uintptr) {
		credentials, failure = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return 0, err
	}
	if failure != nil {
		return 0, failure
	}
	return int(credentials.Pid), nil
}

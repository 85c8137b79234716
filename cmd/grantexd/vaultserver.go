package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/grantexd/grantexd/upstream/devvault"
)

// vaultServer serves the embedded vault and its admin API on addresses of their
// own.
type vaultServer struct {
	vault         *devvault.Server
	public, admin net.Listener
}

// listenVault opens both addresses; admin may be "" for none.
func listenVault(vault *devvault.Server, public, admin string) (*vaultServer, error) {
	s := &vaultServer{vault: vault}
	var err error
	if s.public, err = net.Listen("tcp", public); err != nil {
		return nil, fmt.Errorf("the vault can't listen: %w: choose another address with --listen", reason(err))
	}
	if admin == "" {
		return s, nil
	}
	if s.admin, err = net.Listen("tcp", admin); err != nil {
		_ = s.public.Close()
		return nil, fmt.Errorf("the admin API can't listen: %w: choose another address with --admin", reason(err))
	}
	return s, nil
}

// url is the vault's address for a client; wildcard addresses become loopback.
func listenerURL(l net.Listener) string {
	address := l.Addr().(*net.TCPAddr)
	if address.IP.IsUnspecified() {
		return fmt.Sprintf("http://127.0.0.1:%d", address.Port)
	}
	return "http://" + address.String()
}

// drainTime is how long calls under way are waited for at the end.
const drainTime = 2 * time.Second

// run serves until ctx ends. Calls that hang, as a fault makes them, are let go.
func (s *vaultServer) run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	serve := func(l net.Listener, handler http.Handler) {
		server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}
		group.Go(func() error {
			if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
				return err
			}
			return nil
		})
		group.Go(func() error {
			<-ctx.Done()
			drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTime)
			defer cancel()
			if server.Shutdown(drain) != nil {
				return server.Close()
			}
			return nil
		})
	}
	serve(s.public, s.vault.Handler())
	if s.admin != nil {
		serve(s.admin, s.vault.Admin())
	}
	return group.Wait()
}

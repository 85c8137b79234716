package socketapi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"
)

const (
	// newcomerPatience is how long a connection that was just accepted may take
	// to send its request while the daemon stops.
	newcomerPatience = time.Second
	// lastWords is how long those who are sent away at the end of the grace
	// period have for their answer.
	lastWords = 250 * time.Millisecond
	// drainInterval is how often a stop looks whether it is done.
	drainInterval = 5 * time.Millisecond
)

// Serve answers on the listeners, which are *[Listener], *[TCPListener] or Unix
// listeners made by somebody else, until ctx ends. Then it drains: it accepts no
// more, answers what was asked, and waits at most the grace period for that. It
// closes the listeners in any case, and returns nil unless one of them failed.
//
// A path that a *[Listener] made is removed at once when a stop begins. On other
// Unix listeners, connections that were not accepted yet stay in the backlog for
// whoever else holds the socket.
func (a *API) Serve(ctx context.Context, listeners ...net.Listener) error {
	if len(listeners) == 0 || a.serving.Swap(true) {
		for _, l := range listeners {
			_ = l.Close()
		}
		return errors.New("socketapi: Serve needs a listener, and can be called once")
	}
	base, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	server := a.newServer(base)
	failed := make(chan error, len(listeners)+1)
	acceptors := make([]*acceptor, 0, len(listeners))
	for _, l := range listeners {
		acc := newAcceptor(a, l)
		acceptors = append(acceptors, acc)
		go func() { failed <- server.Serve(acc) }()
	}
	internal := make(chan struct{})
	go func() {
		defer close(internal)
		_ = server.Serve(a.internal) // ends with the server
	}()

	var err error
	running := len(acceptors)
	select {
	case <-ctx.Done():
	case err = <-failed:
		err = fmt.Errorf("accepting connections: %w", err)
		running--
	}
	a.drain(cancel, acceptors, failed, running)
	_ = server.Close()
	_ = a.internal.Close()
	<-internal
	for _, acc := range acceptors {
		acc.refusing.Wait()
	}
	return err
}

// newServer returns the server of all listeners. Its own Shutdown is not used:
// it drops requests that were sent but not read yet.
func (a *API) newServer(base context.Context) *http.Server {
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	return &http.Server{
		Handler:                      a.Handler(),
		ReadHeaderTimeout:            a.options.ReadTimeout,
		IdleTimeout:                  a.options.IdleTimeout,
		MaxHeaderBytes:               a.options.MaxHeaderBytes,
		DisableGeneralOptionsHandler: true, // OPTIONS * is no route either
		Protocols:                    &protocols,
		ErrorLog:                     slog.NewLogLogger(a.log.Handler(), slog.LevelWarn),
		BaseContext: func(net.Listener) context.Context {
			return context.WithValue(base, graceKey{}, base)
		},
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			if accepted, ok := c.(*conn); ok {
				ctx = context.WithValue(ctx, sessionKey{}, accepted.session)
			}
			return ctx
		},
	}
}

// drain stops the accept loops, of which so many are running, and returns when
// every connection is closed or the grace period is over.
func (a *API) drain(cancel context.CancelFunc, acceptors []*acceptor, failed <-chan error, running int) {
	a.draining.Store(true)
	grace := time.NewTimer(a.options.Grace)
	defer grace.Stop()
	for _, acc := range acceptors {
		acc.stop()
	}
	// An accept loop hands its last connection to the server before it ends.
	for ; running > 0; running-- {
		if err := <-failed; err != nil {
			a.log.Debug("accept loop ended", slog.Any("reason", err))
		}
	}
	if a.hangUp(grace.C) {
		return
	}
	cancel()
	a.hangUp(time.After(lastWords))
}

// hangUp ends connections as soon as they wait for no answer. It reports whether
// all of them ended before the time was over.
func (a *API) hangUp(over <-chan time.Time) bool {
	tick := time.NewTicker(drainInterval)
	defer tick.Stop()
	for a.conns.hangUpIdle(newcomerPatience) > 0 {
		select {
		case <-over:
			return false
		case <-tick.C:
		}
	}
	return true
}

// graceKey finds the context in a request's that ends with the grace period.
type graceKey struct{}

// outlive returns r with a context that ends with the grace period and not with
// the connection. While the daemon stops, connections are told to send no more,
// which net/http takes for a caller that left.
func outlive(r *http.Request) (*http.Request, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(r.Context()))
	forget := func() bool { return false }
	if grace, ok := r.Context().Value(graceKey{}).(context.Context); ok {
		forget = context.AfterFunc(grace, cancel)
	}
	return r.WithContext(ctx), func() { forget(); cancel() }
}

package socketapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"

	"github.com/grantexd/grantexd/socketapi/peer"
	"github.com/grantexd/grantexd/socketapi/wire"
)

// SelfCheck sends a health request through the real handler, on a listener
// inside of the process: no client's load, no rule and no limit can make it fail,
// or any client could get the daemon killed by its watchdog. It fails while
// [API.Serve] is not running, or if there is no answer before ctx ends.
func (a *API) SelfCheck(ctx context.Context) error {
	if !a.serving.Load() {
		return errors.New("self-check: the API is not served yet")
	}
	transport := &http.Transport{DialContext: a.internal.dial, DisableKeepAlives: true}
	defer transport.CloseIdleConnections()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+cacheName+wire.PathHealth, nil)
	if err != nil {
		return err
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return fmt.Errorf("self-check: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	_, err = io.Copy(io.Discard, response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("answered %d", response.StatusCode)
	}
	if err != nil {
		return fmt.Errorf("self-check: %w", err)
	}
	return nil
}

// pipeListener is a listener for connections from inside of the process.
type pipeListener struct {
	dialed chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newPipeListener() *pipeListener {
	return &pipeListener{dialed: make(chan net.Conn), closed: make(chan struct{})}
}

// dial connects to the listener; it waits for Accept.
func (l *pipeListener) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	client, server := net.Pipe()
	var err error
	select {
	case l.dialed <- server:
		return client, nil
	case <-l.closed:
		err = net.ErrClosed
	case <-ctx.Done():
		err = ctx.Err()
	}
	_, _ = client.Close(), server.Close()
	return nil, err
}

// Accept implements [net.Listener] with connections that no limit counts.
func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.dialed:
		return newConn(c, DefaultWriteTimeout, func(s *session) { s.open(peer.Internal(), nil) }), nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close implements [net.Listener].
func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

// Addr implements [net.Listener].
func (l *pipeListener) Addr() net.Addr { return &net.UnixAddr{Name: "internal", Net: "unix"} }

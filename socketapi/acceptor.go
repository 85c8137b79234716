package socketapi

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/grantexd/grantexd/socketapi/peer"
	"github.com/grantexd/grantexd/socketapi/wire"
)

const (
	// politeRefusals is how many refused connections at once are answered. More
	// than that come from a flood, and are closed without a word: what is left
	// of the accept loop's time belongs to others.
	politeRefusals = 256
	// politeness is how long a refused connection may take to send something.
	politeness = time.Second
	// refusalLogInterval bounds what refused connections can write to the log.
	refusalLogInterval = time.Minute
	// lastCall is how long a listener that is about to close waits for one more
	// connection out of its backlog.
	lastCall = 20 * time.Millisecond
)

// acceptor is a listener whose connections carry the session of their caller,
// and are counted against the limits.
type acceptor struct {
	net.Listener
	api *API
	// door is set for the loopback address.
	door *tcpDoor

	polite   chan struct{} // a semaphore of politeRefusals places
	refusing sync.WaitGroup

	mu       sync.Mutex // guards the rest
	stopping bool
	refused  int
	logged   time.Time
}

func newAcceptor(a *API, l net.Listener) *acceptor {
	acc := &acceptor{Listener: l, api: a, polite: make(chan struct{}, politeRefusals)}
	if tcp, ok := l.(*TCPListener); ok {
		acc.door = tcp.door
	}
	return acc
}

// Accept returns the next connection that fits the limits.
func (l *acceptor) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) {
				return nil, net.ErrClosed // the backlog is empty, see stop
			}
			return nil, err
		}
		l.extendLastCall()
		who := l.accountOf(c)
		switch v := l.api.conns.limits.admit(who); v {
		case admitted:
			return l.admit(c, who), nil
		default:
			l.refuse(c, who, v)
		}
	}
}

// accountOf finds the connection's account by the cheapest means, since it is
// asked before anything is known of the caller.
func (l *acceptor) accountOf(c net.Conn) account {
	if l.door != nil {
		return accountTCP
	}
	if sc, ok := c.(syscall.Conn); ok {
		if uid, ok := peer.UID(sc); ok {
			return account(uid)
		}
	}
	return accountUnknown
}

// admit keeps the connection.
func (l *acceptor) admit(c net.Conn, who account) *conn {
	accepted := newConn(c, l.api.options.WriteTimeout, func(s *session) {
		s.open(l.identityOf(c), l.api.options.Audit)
	})
	accepted.session.door = l.door
	l.api.conns.add(accepted, who)
	return accepted
}

func (l *acceptor) identityOf(c net.Conn) *peer.Identity {
	if l.door != nil {
		return peer.TCP()
	}
	if sc, ok := c.(syscall.Conn); ok {
		return peer.Of(sc)
	}
	return new(peer.Identity)
}

// refuse answers a connection that does not fit the limits, and closes it. It
// never blocks the accept loop.
func (l *acceptor) refuse(c net.Conn, who account, v verdict) {
	l.logRefusal(who)
	select {
	case l.polite <- struct{}{}:
		l.refusing.Go(func() {
			defer func() { <-l.polite }()
			// An answer that comes before the request confuses HTTP clients.
			_ = c.SetReadDeadline(time.Now().Add(politeness))
			_, _ = c.Read(make([]byte, 4096))
			_ = c.SetWriteDeadline(time.Now().Add(politeness))
			_, _ = c.Write(closingAnswer(refusal(who, v)))
			_ = c.Close()
		})
	default:
		_ = c.Close()
	}
}

func refusal(who account, v verdict) *wire.Error {
	message := "grantexd has as many connections open as it can have; ask again"
	if v == tooManyOfAccount {
		message = who.String() + " has as many connections to grantexd open as it may have; close some, or reuse them"
	}
	return &wire.Error{Code: wire.CodeRateLimited, Message: message, RetryAfter: 1}
}

// String names the account as its callers' principal.
func (who account) String() string {
	switch who {
	case accountTCP:
		return peer.PrincipalTCP
	case accountUnknown:
		return peer.PrincipalUnknown
	}
	return fmt.Sprintf("uid:%d", uint64(who))
}

// logRefusal says that connections are refused, once in a while.
func (l *acceptor) logRefusal(who account) {
	l.mu.Lock()
	l.refused++
	refused := l.refused
	due := time.Since(l.logged) >= refusalLogInterval
	if due {
		l.logged, l.refused = time.Now(), 0
	}
	l.mu.Unlock()
	if due {
		l.api.log.Warn("connections refused: too many are open",
			slog.String("principal", who.String()), slog.Int("refused", refused))
	}
}

// stop ends the accept loop. A listener that will be gone afterwards hands out
// what waits in its backlog first; one that systemd keeps leaves that to the next
// process.
func (l *acceptor) stop() {
	own, ok := l.Listener.(*Listener)
	if !ok {
		_ = l.Close()
		return
	}
	own.unlink() // nobody new finds the way, so the backlog has an end
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stopping = true
	_ = own.SetDeadline(time.Now().Add(lastCall))
}

func (l *acceptor) extendLastCall() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if own, ok := l.Listener.(*Listener); ok && l.stopping {
		_ = own.SetDeadline(time.Now().Add(lastCall))
	}
}

package socketapi

import (
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// conn is an accepted connection: the session of its caller, and the deadlines
// that net/http has no setting for.
type conn struct {
	net.Conn
	session      *session
	accepted     time.Time
	writeTimeout time.Duration
	// identify opens the session, before the first byte is read.
	identify func()
	// writeUntil is the write deadline that is set. Only Write, of which
	// net/http makes one call at a time, uses it.
	writeUntil time.Time
	// hungUp is set once a stop has told the other end to send no more.
	hungUp  atomic.Bool
	onClose func()

	identified, closed sync.Once
}

// newConn returns a connection whose session is opened by identify. Finding out
// who is calling takes longer than accepting does, so it is done by the
// connection's own goroutine, first thing, and holds up nobody else.
func newConn(c net.Conn, writeTimeout time.Duration, identify func(*session)) *conn {
	accepted := &conn{Conn: c, session: new(session), accepted: time.Now(), writeTimeout: writeTimeout}
	accepted.identify = func() { identify(accepted.session) }
	accepted.onClose = func() {}
	return accepted
}

// Read makes sure that the caller is known before its first request is.
func (c *conn) Read(p []byte) (int, error) {
	c.identified.Do(c.identify)
	return c.Conn.Read(p)
}

// Write bounds how long a client may leave its answer unread. The deadline is
// moved only when half of it has passed: moving a timer costs more than looking at
// the clock, and nearly all answers are read at once.
func (c *conn) Write(p []byte) (int, error) {
	if now := time.Now(); c.writeUntil.Sub(now) < c.writeTimeout/2 {
		c.writeUntil = now.Add(c.writeTimeout)
		if err := c.Conn.SetWriteDeadline(c.writeUntil); err != nil {
			return 0, err
		}
	}
	if answer := protocolError(p); answer != nil {
		if _, err := c.Conn.Write(answer); err != nil {
			return 0, err
		}
		return len(p), nil
	}
	return c.Conn.Write(p)
}

// SetWriteDeadline does nothing: net/http clears the deadline after each answer,
// and Write sets its own.
func (c *conn) SetWriteDeadline(time.Time) error { return nil }

// CloseWrite lets net/http close a connection in two steps, so that an answer is
// not lost to a request that is still being sent.
func (c *conn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// Close closes the connection and gives its place to another.
func (c *conn) Close() error {
	err := c.Conn.Close()
	c.closed.Do(func() {
		c.identified.Do(func() {}) // not after this
		c.session.close()
		c.onClose()
	})
	return err
}

// hangUp lets the client send no more. On a Unix socket what it has sent already
// is still read and answered, and what it sends later fails with EPIPE before a
// byte is taken: no request is lost half way. TCP has no such thing.
func (c *conn) hangUp() {
	if c.hungUp.Swap(true) {
		return
	}
	if unixConn, ok := c.Conn.(*net.UnixConn); ok {
		_ = unixConn.CloseRead() // it may be closed already
		return
	}
	_ = c.Close()
}

// connections are the open connections.
type connections struct {
	limits *connLimits

	mu   sync.Mutex // guards open
	open map[*conn]struct{}
}

func newConnections(limits *connLimits) *connections {
	return &connections{limits: limits, open: make(map[*conn]struct{})}
}

// add keeps c until it is closed. Its account was admitted before.
func (cs *connections) add(c *conn, who account) {
	c.onClose = func() {
		cs.mu.Lock()
		delete(cs.open, c)
		cs.mu.Unlock()
		cs.limits.leave(who)
	}
	cs.mu.Lock()
	defer cs.mu.Unlock()
	cs.open[c] = struct{}{}
}

// hangUpIdle hangs up on the connections that wait for no answer, but for those
// that were accepted less than patience ago and have asked nothing yet. It
// returns how many are still open.
func (cs *connections) hangUpIdle(patience time.Duration) int {
	cs.mu.Lock()
	idle := make([]*conn, 0, len(cs.open))
	remaining := len(cs.open)
	for c := range cs.open {
		s := c.session
		if !s.answering.Load() && (s.answered.Load() || time.Since(c.accepted) >= patience) {
			idle = append(idle, c)
		}
	}
	cs.mu.Unlock()
	for _, c := range idle {
		c.hangUp() // may call onClose, which takes the lock
	}
	return remaining
}

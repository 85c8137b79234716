package devvault

import (
	"bytes"
	"context"
	"net"
	"net/http"
	"time"
)

// wait waits as long as d says. It returns false if ctx or the vault ended before.
func (s *Server) wait(ctx context.Context, d stall) bool {
	var over <-chan time.Time
	if d.delay > 0 {
		timer := time.NewTimer(d.delay)
		defer timer.Stop()
		over = timer.C
	}
	select {
	case <-over:
	case <-d.removed:
	case <-ctx.Done():
		return false
	case <-s.closed:
		return false
	}
	return true
}

func (s *Server) waitAll(ctx context.Context, stalls []stall) bool {
	for _, d := range stalls {
		if !s.wait(ctx, d) {
			return false
		}
	}
	return true
}

// deliver writes a, bent by m.
func (s *Server) deliver(w http.ResponseWriter, r *http.Request, a answer, m mishap) {
	if m.reset {
		resetConnection(w)
		return
	}
	if m.oversize > len(a.body) && a.body != nil {
		a.body = pad(a.body, m.oversize)
	}
	a.setHeaders(w.Header(), s.now())
	w.WriteHeader(a.status)
	body := a.body
	if m.truncate {
		body = body[:len(body)/2]
	}
	if m.slow > 0 {
		s.writeSlowly(w, r, body, m.slow)
	} else {
		_, _ = w.Write(body) // the caller has left, if this fails
	}
	if m.truncate {
		// The headers promised more. Without the flush the half that was
		// written would be dropped with the connection.
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}
}

// writeSlowly writes one byte each pause, until the caller leaves.
func (s *Server) writeSlowly(w http.ResponseWriter, r *http.Request, body []byte, pause time.Duration) {
	flush := http.NewResponseController(w).Flush
	for i := range body {
		if flush() != nil || !s.wait(r.Context(), stall{delay: pause}) {
			return
		}
		if _, err := w.Write(body[i : i+1]); err != nil {
			return
		}
	}
}

// pad fills a JSON body with white space, which leaves its meaning, up to size.
func pad(body []byte, size int) []byte {
	return append(bytes.Repeat([]byte(" "), size-len(body)), body...)
}

// resetConnection ends the connection without a word. A TCP peer gets a RST, and
// not the FIN that a proper end would be.
func resetConnection(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler) // the next best: the server just closes
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}

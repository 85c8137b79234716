package main

import (
	"context"
	"crypto/tls"
	"net/http/httptrace"
	"strings"
	"sync"
	"time"
)

// certificateNotice is how long before its end a certificate is warned of.
// Machines renew theirs a month before, so that a shorter rest means that they
// have failed to.
const certificateNotice = 14 * 24 * time.Hour

// handshake is what a connection to the vault said of its certificate. net/http
// makes connections in goroutines of its own.
type handshake struct {
	mu    sync.Mutex
	state *tls.ConnectionState
}

// watch returns a context for the call whose handshake is to be kept.
func (h *handshake) watch(ctx context.Context) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		TLSHandshakeDone: func(s tls.ConnectionState, err error) {
			if err != nil {
				return // the call fails with it, and is reported then
			}
			h.mu.Lock()
			defer h.mu.Unlock()
			h.state = &s
		},
	})
}

// checkTLS says how the connection to the vault is protected.
func (c *checkup) checkTLS(h *handshake, base string, now time.Time) {
	const subject = "upstream.tls"
	h.mu.Lock()
	defer h.mu.Unlock()
	if strings.HasPrefix(base, "http:") {
		c.ok(subject, "none, which is allowed to this machine only")
		return
	}
	if h.state == nil || len(h.state.PeerCertificates) == 0 {
		return // no connection was made, which is reported as that
	}
	leaf := h.state.PeerCertificates[0]
	left := leaf.NotAfter.Sub(now)
	if left < certificateNotice {
		c.warn(subject, "the vault's certificate ends in %s, at %s: whoever runs the vault has to renew it",
			seconds(left.Seconds()), moment(leaf.NotAfter))
		return
	}
	c.ok(subject, "%s, with a certificate until %s", tls.VersionName(h.state.Version), moment(leaf.NotAfter))
}

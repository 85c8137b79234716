package budget

import (
	"net/http"
	"strings"
	"time"

	"github.com/grantexd/grantexd/upstream"
)

// Transport returns a RoundTripper in front of next which lets exchanges leave
// within the budget. Whatever else is asked of the vault passes at once and does
// not count.
//
// An exchange waits for its slot until its context ends; then the error is the
// context's, and no slot is spent. A retry (a further attempt of the same
// [upstream.Departure]) does not wait: without a slot its error is an
// [*upstream.NoSlotError].
func (b *Budget) Transport(next http.RoundTripper) http.RoundTripper {
	return &transport{budget: b, next: next}
}

type transport struct {
	budget *Budget
	next   http.RoundTripper
}

// RoundTrip implements [http.RoundTripper].
func (t *transport) RoundTrip(req *http.Request) (resp *http.Response, err error) {
	if !strings.HasSuffix(req.URL.Path, upstream.PathExchange) {
		return t.next.RoundTrip(req)
	}
	ctx := req.Context()
	dep := upstream.DepartureFrom(ctx)
	slot, err := t.budget.acquire(ctx, dep)
	if err != nil {
		if req.Body != nil {
			_ = req.Body.Close() // as net/http asks of every RoundTripper
		}
		return nil, err
	}
	left := t.budget.clock.Boot()
	// Deferred, since a panic below would otherwise keep the slot forever.
	defer func() { t.budget.settle(slot, left, resp) }()
	dep.Departed()
	left = t.budget.clock.Boot()
	return t.next.RoundTrip(req)
}

// CloseIdleConnections closes those of the transport below, if it can.
func (t *transport) CloseIdleConnections() {
	if c, ok := t.next.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

// settle notes how the departure with the slot ended which really left at left:
// with resp, or given up without an answer if resp is nil.
func (b *Budget) settle(id string, left time.Duration, resp *http.Response) {
	wall := b.clock.Now()
	b.do(func() {
		now := b.clock.Boot()
		s := b.state.find(id)
		s.flying = false
		b.unsaved = true
		if resp == nil {
			s.release = max(now, left+b.limits.Stall) + b.limits.hold()
		} else {
			s.release = now + b.limits.hold()
			b.heed(resp, s.left, now, wall)
		}
		b.dispatch()
	})
}

// heed takes in what the answer to a departure that left at left says about the
// vault's own count.
func (b *Budget) heed(resp *http.Response, left, now time.Duration, wall time.Time) {
	rate := upstream.ParseRateLimit(resp.Header)
	b.state.learn(rate, left, now, b.limits)
	if resp.StatusCode != http.StatusTooManyRequests {
		return
	}
	wait, told := upstream.ParseRetryAfter(resp.Header, wall)
	switch {
	case told:
	case rate.Known:
		wait = rate.Reset
	default:
		wait = b.limits.Window
	}
	b.state.block(wait, now, b.limits)
}

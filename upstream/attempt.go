package upstream

import (
	"context"
	"errors"
	"io"
	"net/http"
	"time"
)

// attemptTransport gives each attempt a time of its own, from when it really
// departs until its body has been read, and turns what can go wrong below it
// into errors of this package. It is the lowest layer: the time that an attempt
// waits for a slot in the layer above does not count.
type attemptTransport struct {
	base    http.RoundTripper
	timeout time.Duration
}

// RoundTrip implements [http.RoundTripper].
func (t *attemptTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithTimeout(req.Context(), t.timeout)
	attempt := &attempt{caller: req.Context(), ctx: ctx, cancel: cancel, timeout: t.timeout}
	resp, err := t.base.RoundTrip(req.WithContext(ctx))
	if err != nil {
		err = attempt.failure(err)
		cancel()
		return nil, err
	}
	attempt.body = resp.Body
	resp.Body = attempt
	return resp, nil
}

// attempt is one attempt under way, and the body of its answer.
type attempt struct {
	caller  context.Context // the request's own
	ctx     context.Context // the caller's, with the attempt's timeout
	cancel  context.CancelFunc
	timeout time.Duration
	body    io.ReadCloser
}

// Read implements [io.Reader].
func (a *attempt) Read(p []byte) (int, error) {
	n, err := a.body.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = a.failure(err)
	}
	return n, err
}

// Close implements [io.Closer] and ends the attempt.
func (a *attempt) Close() error {
	err := a.body.Close()
	a.cancel()
	return err
}

// failure says why the attempt failed: because its caller gave up, because its
// time was over, or because of the connection.
func (a *attempt) failure(err error) error {
	switch {
	case a.caller.Err() != nil:
		return contextFailure(a.caller.Err())
	case a.ctx.Err() != nil:
		return attemptTimedOut(a.timeout)
	default:
		return connectionFailure(err)
	}
}

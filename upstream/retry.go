package upstream

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/hashicorp/go-retryablehttp"
)

// maxRetries is how often a call is made again. Each retry spends one of 20
// departures a minute, so there is one only.
const maxRetries = 1

// retries decides for one call whether another attempt is worth a departure,
// and remembers why.
type retries struct {
	explain func(*http.Response) error // what a call that ends so returns
	made    int                        // attempts that ended
	reason  error                      // why the last attempt was to be repeated
}

// client returns the retrying client of the one call.
func (r *retries) client(hc *http.Client, o Options) *retryablehttp.Client {
	return &retryablehttp.Client{
		HTTPClient:   hc,
		Logger:       nil, // it would log addresses and net/http's errors as they are
		RetryMax:     maxRetries,
		RetryWaitMin: o.RetryWaitMin,
		RetryWaitMax: o.RetryWaitMax,
		CheckRetry:   r.check,
		Backoff:      backoff,
		ErrorHandler: retryablehttp.PassthroughErrorHandler,
	}
}

// check implements [retryablehttp.CheckRetry]: again for a broken connection
// and for 502, 503 and 504. Never for a 429, which is no accident, and never
// for a timeout, since a vault that hangs may count late what it got.
func (r *retries) check(ctx context.Context, resp *http.Response, err error) (bool, error) {
	r.made++
	if ctx.Err() != nil {
		return false, nil // nobody is left to wait for another one
	}
	var broken *failure
	switch {
	case errors.As(err, &broken) && broken.retry:
		r.reason = broken
		return true, nil
	case err != nil:
		return false, nil
	}
	switch resp.StatusCode {
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		r.reason = r.explain(resp)
		return true, nil
	}
	return false, nil
}

// backoff implements [retryablehttp.Backoff]: anything from least to most,
// evenly, so that instances that failed together don't come back together. It
// does not look at Retry-After: who has to wait an hour is told so, at once.
func backoff(least, most time.Duration, _ int, _ *http.Response) time.Duration {
	return least + rand.N(most-least+1)
}

package daemon

import (
	"context"
	"errors"
	"math"
	"time"

	"github.com/grantexd/grantexd/daemon/broker"
	"github.com/grantexd/grantexd/socketapi/wire"
)

// codeOf is the one table from the broker's failures to the codes on the wire.
var codeOf = map[broker.Kind]wire.Code{
	broker.KindInternal:         wire.CodeInternal,
	broker.KindGrantUnavailable: wire.CodeGrantUnavailable,
	broker.KindUnauthorized:     wire.CodeUnauthorized,
	broker.KindForbidden:        wire.CodeForbidden,
	broker.KindNotFound:         wire.CodeNotFound,
	broker.KindExpired:          wire.CodeCredentialExpired,
	broker.KindRateLimited:      wire.CodeRateLimited,
	broker.KindUpstream:         wire.CodeUpstreamError,
	broker.KindTimeout:          wire.CodeUpstreamTimeout,
}

// wireError translates a failure of the broker. The end of the caller's own
// context is left as it is: nobody reads the answer. Everything else that is not
// the broker's is a bug and stays what it is, for the API to log.
func wireError(err error) error {
	var e *broker.Error
	if !errors.As(err, &e) {
		return err
	}
	code, ok := codeOf[e.Kind]
	if !ok {
		return err
	}
	return &wire.Error{
		Message: e.Message, Code: code, RetryAfter: wholeSeconds(e.RetryAfter),
		UpstreamStatus: e.UpstreamStatus, UpstreamRequestID: e.UpstreamRequestID,
	}
}

// wholeSeconds rounds up, so that waiting that long is always enough.
func wholeSeconds(d time.Duration) int { return int(math.Ceil(d.Seconds())) }

// firstError returns the error that is not a cancellation, if there is one.
func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil && !errors.Is(err, context.Canceled) {
			return err
		}
	}
	return nil
}

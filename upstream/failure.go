package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"syscall"
	"time"
)

// failure is an attempt that brought no answer. Its text is made of words of
// our own and of errors whose text is known to be harmless: net/http quotes
// what it can't parse, and a fault may have put a token there.
type failure struct {
	// kind is what callers test for: ErrTimeout, ErrConnect or a context's
	// error, several of them if several are true.
	kind []error
	// detail says what happened, in words.
	detail string
	// retry says that the connection is to blame, and that a new one may do.
	retry bool
}

// Error says what happened.
func (f *failure) Error() string { return f.kind[0].Error() + ": " + f.detail }

// Unwrap returns what the failure is.
func (f *failure) Unwrap() []error { return f.kind }

// contextFailure is what a caller gets whose context ended.
func contextFailure(err error) *failure {
	if errors.Is(err, context.DeadlineExceeded) {
		return &failure{kind: []error{ErrTimeout, err}, detail: "the call's own deadline has passed"}
	}
	return &failure{kind: []error{err}, detail: "the call was given up"}
}

// attemptTimedOut is what an attempt ends with after its timeout. It is not
// made again: a vault that hangs counts each of them.
func attemptTimedOut(timeout time.Duration) *failure {
	return &failure{kind: []error{ErrTimeout}, detail: fmt.Sprintf("an attempt ended after %s", timeout)}
}

// connectionFailure turns an error of net/http into one whose text is safe.
func connectionFailure(err error) *failure {
	var (
		cert   *tls.CertificateVerificationError
		record tls.RecordHeaderError
		proxy  *proxyError
		dns    *net.DNSError
		op     *net.OpError
		errno  syscall.Errno
		slow   net.Error
	)
	refused := func(cause error, retry bool) *failure {
		return &failure{kind: []error{ErrConnect, cause}, detail: shorten(printable(cause.Error()), maxDetail), retry: retry}
	}
	broken := func(detail string, retry bool) *failure {
		return &failure{kind: []error{ErrConnect}, detail: detail, retry: retry}
	}
	switch {
	case errors.As(err, &cert):
		return refused(cert, false)
	case errors.As(err, &record):
		return broken("what answers there does not speak TLS", false)
	case errors.As(err, &proxy):
		return refused(proxy, proxy.status >= http.StatusInternalServerError)
	case errors.As(err, &dns):
		return refused(dns, true)
	case errors.As(err, &op):
		return refused(op, true)
	case errors.As(err, &errno):
		return refused(errno, true)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed):
		return broken("the connection was closed before the answer was complete", true)
	case errors.As(err, &slow) && slow.Timeout():
		return broken("connecting took too long", true)
	default:
		return broken("the connection broke, or what came over it was not HTTP", true)
	}
}

package broker

import (
	"fmt"
	"time"
)

// Kind says why there is no credential.
type Kind int

// The kinds of failure.
const (
	// KindInternal is a bug. It is the zero value.
	KindInternal Kind = iota
	// KindGrantUnavailable means that there is no grant token to exchange.
	KindGrantUnavailable
	// KindUnauthorized means that the vault rejected the grant, or that the
	// grant expired.
	KindUnauthorized
	// KindForbidden means that the grant's scopes don't cover the service.
	KindForbidden
	// KindNotFound means that the vault stores no credential for the service.
	KindNotFound
	// KindExpired means that the vault stores an expired credential.
	KindExpired
	// KindRateLimited means that no departure is possible before the caller's
	// deadline.
	KindRateLimited
	// KindUpstream means that the vault failed.
	KindUpstream
	// KindTimeout means that the vault did not answer.
	KindTimeout
)

// Error is what a caller of [Broker.Get] gets instead of a credential. Its
// message says what is wrong and what to do, and holds no secret.
type Error struct {
	Kind    Kind
	Message string
	// RetryAfter is in how long it is worth asking again; 0 if waiting does
	// not help.
	RetryAfter time.Duration
	// UpstreamStatus and UpstreamRequestID are the vault's, zero if it did not
	// answer.
	UpstreamStatus    int
	UpstreamRequestID string
}

// Error returns the message.
func (e *Error) Error() string { return e.Message }

// in returns a copy of e that says when to ask again.
func (e *Error) in(wait time.Duration) *Error {
	c := *e
	c.RetryAfter = max(wait, time.Second)
	return &c
}

func errRateLimited(wait time.Duration) *Error {
	return (&Error{
		Kind: KindRateLimited,
		Message: fmt.Sprintf("the vault's limit of exchanges is used up: the next one can leave in %s; ask again then",
			humanize(wait)),
	}).in(wait)
}

func errTooManyNames(wait time.Duration, limit int) *Error {
	return (&Error{
		Kind: KindRateLimited,
		Message: fmt.Sprintf("this caller asked for too many services that the vault does not have (%d a minute are allowed): "+
			"check the service's name, and ask again in %s", limit, humanize(wait)),
	}).in(wait)
}

// errNoAnswer is for a caller whose deadline came before the vault's answer.
var errNoAnswer = &Error{Kind: KindTimeout, RetryAfter: time.Second,
	Message: "the vault has not answered within the time this caller would wait: ask again, or wait longer (Prefer: wait=N)"}

var errStopping = &Error{Kind: KindUpstream, Message: "grantexd is stopping: ask again in a moment", RetryAfter: time.Second}

// humanize rounds a wait up to whole seconds, as the Retry-After header does.
func humanize(d time.Duration) time.Duration {
	return max((d + time.Second - 1).Truncate(time.Second), time.Second)
}

package upstream

import (
	"errors"
	"fmt"
	"time"
)

// Error is an answer of the vault that is not the one asked for. It never holds
// the answer's body: a proxy or a fault could have put a token there.
type Error struct {
	// Status is the HTTP status.
	Status int
	// Code is the code in the vault's error body, "" if the body was not of
	// the vault's shape. On 429 it is BAD_REQUEST: branch on Status.
	Code string
	// Message is the message of the vault's error body, bounded and stripped
	// of control characters, "" if the body was not of the vault's shape.
	Message string
	// RequestID is the vault's id of the request, "" if it gave none.
	RequestID string
	// RetryAfter is how long the vault asks to wait: the Retry-After header,
	// else x-ratelimit-reset on a 429, never negative. Zero if it did not say.
	RetryAfter time.Duration
	// URL is the address that answered, without query or user info.
	URL string
	// Date is the vault's clock, from the Date header, zero if there was none.
	Date time.Time
}

// Error says what the vault answered, without a body.
func (e *Error) Error() string {
	if e.Code == "" {
		return fmt.Sprintf("vault answered %d at %s with a body that is not the vault's", e.Status, e.URL)
	}
	return fmt.Sprintf("vault answered %d %s: %s", e.Status, e.Code, e.Message)
}

// GrantRejected reports whether the vault itself refused the grant token: a 401
// in the vault's error shape whose message is neither that of a wrong path
// ("Invalid API key") nor that of a missing header ("Missing grant token"). The
// other 401s speak of the address or of a proxy in between, and nothing may be
// purged for them.
func (e *Error) GrantRejected() bool {
	return e.Status == 401 && e.Code == "UNAUTHORIZED" && e.RequestID != "" &&
		e.Message != "Invalid API key" && e.Message != "Missing grant token"
}

// MalformedError is a 200 whose body is not what the vault documents.
type MalformedError struct {
	// URL is the address that answered, without query or user info.
	URL string
	// Reason says what is wrong with the body without quoting it.
	Reason string
}

// Error says what is wrong with the answer.
func (e *MalformedError) Error() string {
	return fmt.Sprintf("vault answered 200 at %s with a body that is not a credential: %s", e.URL, e.Reason)
}

// ErrTimeout is wrapped by errors that mean that the vault did not answer in
// time.
var ErrTimeout = errors.New("the vault did not answer in time")

// ErrConnect is wrapped by errors that mean that no connection could be made, or
// that it broke before an answer came.
var ErrConnect = errors.New("no connection to the vault")

package upstream

import (
	"encoding/json"
	"net/http"
	"time"

	"github.com/grantexd/grantexd/upstream/secret"
)

// maxName is the longest code or request id that is handed on, in bytes: codes
// have up to 14, ids are UUIDs.
const maxName = 64

// errorOf turns an answer that was not asked for into an Error. Only a body of
// the vault's own shape contributes words to it, and those without secrets.
func (c *Client) errorOf(a *answer, secrets []secret.Text) *Error {
	e := &Error{
		Status:     a.status,
		RetryAfter: retryAfter(a, c.options.Clock.Now()),
		URL:        a.url,
		Date:       parseDate(a.header),
	}
	var fields map[string]json.RawMessage
	if a.tooLong || json.Unmarshal(a.body, &fields) != nil {
		return e
	}
	var message, code, id string
	if json.Unmarshal(fields["message"], &message) != nil || json.Unmarshal(fields["code"], &code) != nil || !isName(code) {
		return e
	}
	e.Code = redact(code, secrets)
	e.Message = shorten(redact(printable(message), secrets), maxMessage)
	if json.Unmarshal(fields["requestId"], &id) == nil && isName(id) {
		e.RequestID = redact(id, secrets)
	}
	return e
}

// retryAfter returns how long the vault asks to wait, zero if it does not.
func retryAfter(a *answer, now time.Time) time.Duration {
	if wait, ok := ParseRetryAfter(a.header, now); ok {
		return wait
	}
	if a.status != http.StatusTooManyRequests {
		return 0
	}
	seconds, _ := wholeNumber(a.header, "X-Ratelimit-Reset", int64(maxWait/time.Second))
	return time.Duration(seconds) * time.Second
}

// isName reports whether s can be a code or an id: it is printed as it is.
func isName(s string) bool {
	for _, c := range []byte(s) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case c == '_', c == '-', c == '.', c == ':':
		default:
			return false
		}
	}
	return s != "" && len(s) <= maxName
}

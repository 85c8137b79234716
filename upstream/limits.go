package upstream

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

// maxWait is the longest wait that a header is believed to mean. The vault's
// windows last a minute; a day leaves room for other ones, and still tells
// seconds from the Unix time that some servers send in x-ratelimit-reset.
const maxWait = 24 * time.Hour

// maxLimit is the highest limit that is believed: the vault's own highest is
// 5000 a minute.
const maxLimit = 1_000_000

// RateLimit is what the vault's x-ratelimit-* headers say of the window that
// the answered request was counted in. The zero value means that they said
// nothing usable.
type RateLimit struct {
	// Limit is how many requests the window admits, at least 1.
	Limit int
	// Remaining is how many of them are left, from 0 to Limit.
	Remaining int
	// Reset is how long the window still lasts, in whole seconds, rounded up
	// by the vault: waiting that long is always enough. At most a day.
	Reset time.Duration
	// Known is true if all three headers were there, once each, and made
	// sense. If it is false the other fields are zero.
	Known bool
}

// ParseRateLimit reads x-ratelimit-limit, x-ratelimit-remaining and
// x-ratelimit-reset. Whatever is missing, repeated, negative, no whole number,
// contradictory or absurd makes all of it unknown: nobody may be held up, or
// let through, by a guess.
func ParseRateLimit(h http.Header) RateLimit {
	limit, okLimit := wholeNumber(h, "X-Ratelimit-Limit", maxLimit)
	remaining, okRemaining := wholeNumber(h, "X-Ratelimit-Remaining", maxLimit)
	reset, okReset := wholeNumber(h, "X-Ratelimit-Reset", int64(maxWait/time.Second))
	if !okLimit || !okRemaining || !okReset || limit == 0 || remaining > limit {
		return RateLimit{}
	}
	return RateLimit{
		Limit:     int(limit),
		Remaining: int(remaining),
		Reset:     time.Duration(reset) * time.Second,
		Known:     true,
	}
}

// ParseRetryAfter reads Retry-After (RFC 9110, section 10.2.3): a number of
// seconds or a date. A date is measured against the answer's own Date header,
// since the vault's clock may differ from ours, and against now if there is
// none. The result lies between zero (a date that has passed) and a day. It is
// false if the header is missing, repeated or garbage.
func ParseRetryAfter(h http.Header, now time.Time) (time.Duration, bool) {
	value, ok := single(h, "Retry-After")
	if !ok {
		return 0, false
	}
	if digits(value) {
		seconds, err := strconv.ParseInt(value, 10, 64)
		if err != nil || seconds > int64(maxWait/time.Second) {
			return maxWait, true // more digits than fit still mean "long"
		}
		return time.Duration(seconds) * time.Second, true
	}
	at, err := http.ParseTime(value)
	if err != nil {
		return 0, false
	}
	if date := parseDate(h); !date.IsZero() {
		now = date
	}
	return min(max(at.Sub(now), 0), maxWait), true
}

// parseDate returns the Date header, in UTC, or the zero time.
func parseDate(h http.Header) time.Time {
	date, err := http.ParseTime(h.Get("Date"))
	if err != nil {
		return time.Time{}
	}
	return date.UTC()
}

// wholeNumber returns the header's value if it is a whole number from 0 to most.
func wholeNumber(h http.Header, name string, most int64) (int64, bool) {
	value, ok := single(h, name)
	if !ok || !digits(value) {
		return 0, false
	}
	n, err := strconv.ParseInt(value, 10, 64)
	if err != nil || n > most {
		return 0, false
	}
	return n, true
}

// single returns the header's value if it was sent exactly once: of two values
// nobody can tell which is the vault's and which some proxy's.
func single(h http.Header, name string) (string, bool) {
	values := h.Values(name)
	if len(values) != 1 {
		return "", false
	}
	value := strings.TrimSpace(values[0])
	return value, value != ""
}

// digits reports whether s is made of ASCII digits only, which strconv alone
// does not ask for: it takes a sign.
func digits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}

package main

import (
	"strconv"
	"strings"
	"time"
)

// expiryLayouts are the ISO 8601 times that are understood, all with a zone: a
// time without one would mean another moment on another machine.
var expiryLayouts = []string{time.RFC3339Nano, "2006-01-02T15:04Z07:00", "2006-01-02T15:04:05.999999999Z0700", "20060102T150405Z0700"}

// maxExpiry is the last year that ISO 8601 writes with four digits.
const maxExpiry = 9999

// parseExpiry reads when a token ends: an ISO 8601 time, or a duration from now
// such as 8h or 30d. It must be in the future unless allowExpired is set.
func parseExpiry(text string, now time.Time, allowExpired bool) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	expiry, ok := expiryTime(text, now)
	switch {
	case !ok:
		return time.Time{}, usagef(`--token-expires-at: not understood: write a time with its zone, such as 2027-01-31T12:00:00Z, or a duration from now, such as 8h or 30d`)
	case !expiry.After(now) && !allowExpired:
		return time.Time{}, usagef("--token-expires-at: this is past: nobody could use the token; --allow-expired stores it all the same")
	case expiry.UTC().Year() > maxExpiry:
		return time.Time{}, usagef("--token-expires-at: this is too far away: leave it out for a token that does not expire")
	}
	return expiry.UTC().Truncate(time.Millisecond), nil
}

func expiryTime(text string, now time.Time) (time.Time, bool) {
	for _, layout := range expiryLayouts {
		if t, err := time.Parse(layout, text); err == nil {
			return t, true
		}
	}
	if days, ok := strings.CutSuffix(text, "d"); ok {
		n, err := strconv.ParseUint(days, 10, 24)
		return now.AddDate(0, 0, int(n)), err == nil
	}
	d, err := time.ParseDuration(text)
	return now.Add(d), err == nil
}

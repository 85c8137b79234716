package upstream_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/grantexd/grantexd/upstream"
)

// limitHeader returns the three headers; "" leaves one out.
func limitHeader(limit, remaining, reset string) http.Header {
	h := http.Header{}
	for name, value := range map[string]string{
		"x-ratelimit-limit": limit, "x-ratelimit-remaining": remaining, "x-ratelimit-reset": reset,
	} {
		if value != "" {
			h.Set(name, value)
		}
	}
	return h
}

func TestParseRateLimit(t *testing.T) {
	known := func(limit, remaining, seconds int) upstream.RateLimit {
		return upstream.RateLimit{Limit: limit, Remaining: remaining, Reset: time.Duration(seconds) * time.Second, Known: true}
	}
	for _, tt := range []struct {
		name, limit, remaining, reset string
		want                          upstream.RateLimit
	}{
		{"as the vault sends it", "20", "19", "60", known(20, 19, 60)},
		{"nothing left", "20", "0", "40", known(20, 0, 40)},
		{"nothing spent", "20", "20", "0", known(20, 20, 0)},
		{"white space", " 20 ", "\t19", "60 ", known(20, 19, 60)},
		{"leading zeros", "020", "019", "060", known(20, 19, 60)},
		{"highest", "1000000", "1000000", "86400", known(1_000_000, 1_000_000, 86400)},

		{"limit missing", "", "19", "60", upstream.RateLimit{}},
		{"remaining missing", "20", "", "60", upstream.RateLimit{}},
		{"reset missing", "20", "19", "", upstream.RateLimit{}},
		{"limit of zero", "0", "0", "60", upstream.RateLimit{}},
		{"more remaining than the limit", "20", "21", "60", upstream.RateLimit{}},
		{"negative remaining", "20", "-1", "60", upstream.RateLimit{}},
		{"negative reset", "20", "1", "-60", upstream.RateLimit{}},
		{"plus sign", "+20", "1", "60", upstream.RateLimit{}},
		{"fraction", "20", "1", "59.5", upstream.RateLimit{}},
		{"exponent", "2e1", "1", "60", upstream.RateLimit{}},
		{"hexadecimal", "0x14", "1", "60", upstream.RateLimit{}},
		{"underscore", "2_0", "1", "60", upstream.RateLimit{}},
		{"word", "many", "1", "60", upstream.RateLimit{}},
		{"other digits", "٢٠", "1", "60", upstream.RateLimit{}},
		{"list", "20, 20;w=60", "1", "60", upstream.RateLimit{}},
		{"limit too high", "1000001", "1", "60", upstream.RateLimit{}},
		{"reset over a day", "20", "1", "86401", upstream.RateLimit{}},
		{"reset in Unix time", "20", "1", "1796635815", upstream.RateLimit{}},
		{"overflow", "20", "1", "99999999999999999999999", upstream.RateLimit{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			require.Equal(t, tt.want, upstream.ParseRateLimit(limitHeader(tt.limit, tt.remaining, tt.reset)))
		})
	}
	t.Run("sent twice", func(t *testing.T) {
		h := limitHeader("20", "19", "60")
		h.Add("X-RateLimit-Remaining", "3")
		require.Equal(t, upstream.RateLimit{}, upstream.ParseRateLimit(h))
	})
	t.Run("no header at all", func(t *testing.T) {
		require.Equal(t, upstream.RateLimit{}, upstream.ParseRateLimit(nil))
	})
}

func TestParseRetryAfter(t *testing.T) {
	now := time.Date(2026, 12, 7, 9, 30, 0, 0, time.UTC)
	for _, tt := range []struct {
		name, value, date string
		want              time.Duration
		ok                bool
	}{
		{"seconds", "40", "", 40 * time.Second, true},
		{"zero", "0", "", 0, true},
		{"white space", " 40 ", "", 40 * time.Second, true},
		{"an hour", "3600", "", time.Hour, true},
		{"a day", "86400", "", 24 * time.Hour, true},
		{"over a day", "86401", "", 24 * time.Hour, true},
		{"overflow", "99999999999999999999999", "", 24 * time.Hour, true},
		{"date", "Mon, 07 Dec 2026 09:31:00 GMT", "", time.Minute, true},
		{"date of RFC 850", "Monday, 07-Dec-26 09:31:00 GMT", "", time.Minute, true},
		{"date now", "Mon, 07 Dec 2026 09:30:00 GMT", "", 0, true},
		{"date that has passed", "Mon, 07 Dec 2026 09:29:00 GMT", "", 0, true},
		{"date long ago", "Mon, 01 Jan 0001 00:00:00 GMT", "", 0, true},
		{"date far ahead", "Fri, 31 Dec 9999 23:59:59 GMT", "", 24 * time.Hour, true},
		{"date of a vault whose clock is ahead", "Mon, 07 Dec 2026 10:31:00 GMT", "Mon, 07 Dec 2026 10:30:30 GMT", 30 * time.Second, true},
		{"date of a vault whose clock is behind", "Mon, 07 Dec 2026 08:31:00 GMT", "Mon, 07 Dec 2026 08:30:30 GMT", 30 * time.Second, true},
		{"date and a bad Date", "Mon, 07 Dec 2026 09:31:00 GMT", "yesterday", time.Minute, true},

		{"missing", "", "", 0, false},
		{"blank", " ", "", 0, false},
		{"negative", "-1", "", 0, false},
		{"plus sign", "+1", "", 0, false},
		{"fraction", "1.5", "", 0, false},
		{"word", "soon", "", 0, false},
		{"date of RFC 3339", "2026-12-07T09:31:00Z", "", 0, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := http.Header{}
			if tt.value != "" {
				h.Set("Retry-After", tt.value)
			}
			if tt.date != "" {
				h.Set("Date", tt.date)
			}
			got, ok := upstream.ParseRetryAfter(h, now)
			require.Equal(t, tt.ok, ok)
			require.Equal(t, tt.want, got)
		})
	}
	t.Run("sent twice", func(t *testing.T) {
		_, ok := upstream.ParseRetryAfter(http.Header{"Retry-After": {"1", "2"}}, now)
		require.False(t, ok)
	})
}

func FuzzRateLimit(f *testing.F) {
	f.Add("20", "19", "60")
	f.Fuzz(func(t *testing.T, limit, remaining, reset string) {
		h := http.Header{"X-Ratelimit-Limit": {limit}, "X-Ratelimit-Remaining": {remaining}, "X-Ratelimit-Reset": {reset}}
		got := upstream.ParseRateLimit(h)
		if !got.Known && got != (upstream.RateLimit{}) {
			t.Fatalf("half known: %+v", got)
		}
		if got.Known && (got.Limit < 1 || got.Limit > 1_000_000 || got.Remaining < 0 || got.Remaining > got.Limit ||
			got.Reset < 0 || got.Reset > 24*time.Hour || got.Reset%time.Second != 0) {
			t.Fatalf("absurd: %+v", got)
		}
	})
}

func FuzzRetryAfter(f *testing.F) {
	f.Add("40", "", int64(1_796_635_800))
	f.Fuzz(func(t *testing.T, value, date string, unix int64) {
		got, ok := upstream.ParseRetryAfter(http.Header{"Retry-After": {value}, "Date": {date}}, time.Unix(unix, 0))
		if got < 0 || got > 24*time.Hour || (!ok && got != 0) {
			t.Fatalf("%s %v", got, ok)
		}
	})
}

package upstream

import (
	"regexp"
	"strings"
	"time"
)

// momentLayout is how the vault spells a moment, always in UTC.
const momentLayout = "2006-01-02T15:04:05.000Z"

// moment is the grammar of RFC 3339, section 5.6, which the time package alone
// does not insist on: it takes "T7:00:00", a comma and odd offsets.
var moment = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]([01]\d|2[0-3]):[0-5]\d)$`)

// parseTime reads a date and time of RFC 3339, with any offset and precision
// and in either case, and returns it in UTC, cut to milliseconds, which is what
// the vault keeps. The year 1 is refused: the zero time means "no expiry", and
// nothing that the vault says may turn into that.
func parseTime(s string) (time.Time, bool) {
	s = strings.ToUpper(s)
	if !moment.MatchString(s) {
		return time.Time{}, false
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return time.Time{}, false
	}
	t = t.UTC().Truncate(time.Millisecond)
	if t.Year() < 2 || t.Year() > 9999 {
		return time.Time{}, false
	}
	return t, true
}

package socketapi

import (
	"strconv"
	"strings"
	"time"
)

// preferredWait finds the wait preference (RFC 7240, section 4.3) in the lines
// of the Prefer header. Of several, the first counts (section 2). A value that is
// no non-negative number of seconds is as if it were not there; a fraction is
// accepted, though the RFC has whole seconds only.
func preferredWait(lines []string) (time.Duration, bool) {
	for _, line := range lines {
		for element := range strings.SplitSeq(line, ",") {
			preference, _, _ := strings.Cut(element, ";")
			name, value, _ := strings.Cut(preference, "=")
			if !strings.EqualFold(strings.TrimSpace(name), "wait") {
				continue
			}
			return parseWait(strings.Trim(strings.TrimSpace(value), `"`))
		}
	}
	return 0, false
}

// longestWait keeps the conversion to a Duration from overflowing. It is far
// above any limit that is applied later.
const longestWait = 24 * time.Hour

func parseWait(s string) (time.Duration, bool) {
	if s == "" || strings.Trim(s, "0123456789.") != "" {
		// ParseFloat takes signs, exponents, hexadecimals, Inf and NaN too.
		return 0, false
	}
	seconds, err := strconv.ParseFloat(s, 64)
	if err != nil && seconds == 0 {
		return 0, false
	}
	if seconds >= longestWait.Seconds() {
		return longestWait, true
	}
	return time.Duration(seconds * float64(time.Second)), true
}

// appliedWait renders d for Preference-Applied (RFC 7240, section 3).
func appliedWait(d time.Duration) []string {
	return []string{"wait=" + strconv.FormatFloat(d.Seconds(), 'f', -1, 64)}
}

// wantsNoCache finds the directive no-cache (RFC 9111, section 5.2.1.4) in the
// lines of the Cache-Control header.
func wantsNoCache(lines []string) bool {
	for _, line := range lines {
		for directive := range strings.SplitSeq(line, ",") {
			name, _, _ := strings.Cut(directive, "=")
			if strings.EqualFold(strings.TrimSpace(name), "no-cache") {
				return true
			}
		}
	}
	return false
}

// wantsText reports whether the lines of the Accept header (RFC 9110, section
// 12.5.1) prefer text/plain to application/json. A caller that accepts neither
// gets JSON, as the vault's clients expect, and no 406.
func wantsText(lines []string) bool {
	if len(lines) == 1 {
		switch lines[0] {
		case "*/*", "application/json":
			return false
		case "text/plain":
			return true
		}
	}
	text, json := acceptance{}, acceptance{}
	for _, line := range lines {
		for element := range strings.SplitSeq(line, ",") {
			mediaRange, quality := parseAccepted(element)
			text.consider(mediaRange, "text/*", "text/plain", quality)
			json.consider(mediaRange, "application/*", "application/json", quality)
		}
	}
	if text.quality != json.quality {
		return text.quality > json.quality
	}
	return text.quality > 0 && text.specificity > json.specificity
}

// acceptance is how much one media type is wanted; the most specific range of
// the header decides.
type acceptance struct {
	specificity int // 0: not named, 1: */*, 2: type/*, 3: type/subtype
	quality     float64
}

func (a *acceptance) consider(mediaRange, family, exact string, quality float64) {
	specificity := 0
	switch mediaRange {
	case exact:
		specificity = 3
	case family:
		specificity = 2
	case "*/*":
		specificity = 1
	}
	if specificity > a.specificity {
		*a = acceptance{specificity: specificity, quality: quality}
	}
}

// parseAccepted returns the media range of an element of Accept in lower case
// and its quality, 1 if it has none or none that can be read.
func parseAccepted(element string) (mediaRange string, quality float64) {
	mediaRange, parameters, _ := strings.Cut(element, ";")
	quality = 1
	for parameter := range strings.SplitSeq(parameters, ";") {
		name, value, _ := strings.Cut(parameter, "=")
		if !strings.EqualFold(strings.TrimSpace(name), "q") {
			continue
		}
		if q, err := strconv.ParseFloat(strings.TrimSpace(value), 64); err == nil && q >= 0 && q <= 1 {
			quality = q
		}
	}
	return strings.ToLower(strings.TrimSpace(mediaRange)), quality
}

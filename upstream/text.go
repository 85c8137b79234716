package upstream

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxMessage is how much of the vault's message is handed on, in bytes: the
// longest known one has 97.
const maxMessage = 200

// maxDetail is how much of a connection error's text is handed on, in bytes: a
// certificate with many names makes long ones.
const maxDetail = 300

// printable makes a text from outside fit for a log line: control characters,
// invisible ones and invalid UTF-8 become spaces.
func printable(s string) string {
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, s))
}

// shorten cuts s to at most most bytes, between two characters.
func shorten(s string, most int) string {
	const ellipsis = "…"
	if len(s) <= most {
		return s
	}
	end := most - len(ellipsis)
	for end > 0 && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end] + ellipsis
}

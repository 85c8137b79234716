package access

import (
	"fmt"
	"strings"
)

const (
	// maxService is the length of the vault's longest service name.
	maxService = 64
	// maxUnit is the length of two unit names (systemd.unit(5)) with a slash.
	maxUnit = 255 + 1 + 255
)

// globs returns the patterns and what is wrong with them: one that no name
// could ever match is a mistake of whoever wrote it.
func globs(kind string, patterns []string, allowed func(rune) bool, longest int) (good []string, mistakes []error) {
	for _, p := range patterns {
		switch bad := firstBad(p, allowed); {
		case p == "":
			mistakes = append(mistakes, fmt.Errorf("an empty %s name", kind))
		case len(p) > longest:
			mistakes = append(mistakes, fmt.Errorf("%s %.32q… is longer than any name of one", kind, p))
		case bad != "":
			mistakes = append(mistakes, fmt.Errorf("%s %q: no name of one has a %q (only * and ? are special)", kind, p, bad))
		default:
			good = append(good, p)
		}
	}
	return good, mistakes
}

func firstBad(p string, allowed func(rune) bool) string {
	for _, r := range p {
		if r != '*' && r != '?' && !allowed(r) {
			return string(r)
		}
	}
	return ""
}

// inService reports whether r may stand in the name of a service.
func inService(r rune) bool { return isAlnum(r) || strings.ContainsRune("._-", r) }

// inUnit reports whether r may stand in a peer's unit.
func inUnit(r rune) bool { return isAlnum(r) || strings.ContainsRune(`:-_.\@/`, r) }

func isAlnum(r rune) bool {
	return r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
}

// match reports whether name is what pattern describes: * is any number of
// bytes and ? is one, neither a slash; everything else is itself.
//
// On a mismatch only the last star takes one byte more, so the work is at most
// the product of the two lengths. Going back to an earlier star can't help: what
// it would take more, the last one could take as well.
func match(pattern, name string) bool {
	p, n := 0, 0
	star, from := -1, 0 // the last star, and up to where it took
	for n < len(name) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, from = p, n
			p++
		case p < len(pattern) && (pattern[p] == name[n] || pattern[p] == '?' && name[n] != '/'):
			p++
			n++
		case star >= 0 && name[from] != '/':
			from++
			p, n = star+1, from
		default:
			return false
		}
	}
	for p < len(pattern) && pattern[p] == '*' {
		p++
	}
	return p == len(pattern)
}

// matchAny reports whether any pattern matches.
func matchAny(patterns []string, name string) bool {
	for _, p := range patterns {
		if match(p, name) {
			return true
		}
	}
	return false
}

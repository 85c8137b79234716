package daemon

import "strings"

// nearest returns the candidate that name is most likely a misspelling of, ""
// if there is none.
func nearest(name string, candidates []string) string {
	best, least := "", 3 // at most two edits
	if len(name) > 64 {
		return "" // no misspelling of a key, and slow to compare
	}
	for _, c := range candidates {
		d := editDistance(strings.ToLower(strings.ReplaceAll(name, "_", "-")), strings.ToLower(strings.ReplaceAll(c, "_", "-")))
		if d < least && d*3 <= len(c) {
			best, least = c, d
		}
	}
	return best
}

// editDistance counts the insertions, deletions, substitutions and swaps of
// neighbours between a and b (optimal string alignment).
func editDistance(a, b string) int {
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range len(b) + 1 {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			substitution := rows[i-1][j-1]
			if a[i-1] != b[j-1] {
				substitution++
			}
			rows[i][j] = min(rows[i-1][j]+1, rows[i][j-1]+1, substitution)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(a)][len(b)]
}

// showName is a name for an error, unless it does not look like one of a key:
// then it may be a token that was put in the wrong place. No key has a digit, and
// hardly any token has none.
func showName(name string) string {
	const longest = 64 // with the path of an access rule before it
	if len(name) > longest || strings.ContainsFunc(name, notInNames) {
		return "(not shown, since it may be a secret)"
	}
	return name
}

func notInNames(r rune) bool {
	return r != '.' && r != '-' && r != '_' && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
}

// showVariable is showName for an environment variable, which Kubernetes gives
// digits.
func showVariable(name string) string {
	if len(name) > 64 || strings.ContainsFunc(name, func(r rune) bool {
		return r != '_' && (r < '0' || r > '9') && (r < 'A' || r > 'Z')
	}) {
		return "(one that is not shown, since it may be a secret)"
	}
	return name
}

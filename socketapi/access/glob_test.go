package access

import (
	"path"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestMatch(t *testing.T) {
	for _, c := range []struct {
		pattern, name string
		want          bool
	}{
		{"", "", true}, {"", "a", false}, {"a", "", false},
		{"abc", "abc", true}, {"abc", "abd", false}, {"abc", "abcd", false}, {"abcd", "abc", false}, {"abc", "ABC", false},
		{"*", "", true}, {"*", "anything", true}, {"**", "", true}, {"*", "a/b", false}, {"*/*", "a/b", true}, {"*/*", "ab", false},
		{"?", "", false}, {"?", "a", true}, {"?", "ab", false}, {"?", "/", false}, {"??", "ab", true},
		{"a*", "a", true}, {"a*", "abc", true}, {"a*", "ba", false}, {"*c", "abc", true}, {"*c", "abcd", false}, {"*c", "acbc", true},
		{"a*c*e", "abcde", true}, {"a*c*e", "ace", true}, {"a*c*e", "aec", false}, {"*ab*ab", "ab", false}, {"*ab*ab", "abab", true},
		{"*a/*b", "a/a/b", false}, {"*a/*b", "xa/xb", true}, {"user@*.service/*", "user@1.service/a.scope", true},
		{"user@*.service", "user@1.service/a.service", false}, {"*.service", "user@1.service/a.service", false},
		{`a\*`, `a\b`, true}, {"[a]", "a", false},
	} {
		require.Equal(t, c.want, match(c.pattern, c.name), "%q %q", c.pattern, c.name)
	}
}

// A pattern and a name that make a naive matcher try for ages.
func TestMatchIsBounded(t *testing.T) {
	pattern := strings.Repeat("*a", maxUnit/2) + "*b"
	require.False(t, match(pattern, strings.Repeat("a", maxUnit)))
}

// FuzzMatch compares with path.Match, which knows classes and escapes besides.
func FuzzMatch(f *testing.F) {
	f.Add("a*c*e", "abcde")
	f.Add("*a/*b", "a/a/b")
	f.Add("*??/x*", "abc/xyz")
	f.Fuzz(func(t *testing.T, pattern, name string) {
		if strings.ContainsAny(pattern, `[\`) || len(pattern) > 40 || len(name) > 40 ||
			strings.ContainsFunc(pattern+name, func(r rune) bool { return r >= 0x80 }) {
			t.Skip("not in the language, too long for the other one, or more than a byte for a ?")
		}
		want, err := path.Match(pattern, name)
		require.NoError(t, err)
		require.Equal(t, want, match(pattern, name))
	})
}

package upstream_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/grantexd/grantexd/upstream"
)

func TestValidService(t *testing.T) {
	for name, want := range map[string]bool{
		"github": true, "a": true, "0": true, "GITHUB": true, "Z9": true, "a.b_c-d": true, "a.": true,
		"a" + strings.Repeat("-", 63): true,
		"a" + strings.Repeat("-", 64): false,
		"":                            false, ".a": false, "-a": false, "_a": false, "a b": false, "a/b": false, "a\n": false, "\x00": false,
		"gıthub": false, "é": false, "a%2f": false, "..": false, "a\u212a": false,
	} {
		require.Equal(t, want, upstream.ValidService(name), "%q", name)
	}
}

// Every byte, first and later, against the expression that the vault documents.
func TestValidServiceIsTheExpression(t *testing.T) {
	expression := regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)
	for b := range 256 {
		for _, name := range []string{string([]byte{byte(b)}), string([]byte{'a', byte(b)}), string([]byte{'a', byte(b), 'a'})} {
			require.Equal(t, expression.MatchString(name) && !strings.HasSuffix(name, "\n"), upstream.ValidService(name), "%q", name)
		}
	}
}

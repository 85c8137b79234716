package socketapi

import (
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestValidName(t *testing.T) {
	longest := strings.Repeat("a", 64)
	for _, s := range []string{"a", "Z", "0", "github", "GITHUB", "a.b_c-d", "a..b", "1.", longest} {
		require.True(t, validName(s), s)
	}
	for _, s := range []string{
		"", ".", "..", "-a", "_a", ".a", "a/b", "a b", "a\n", "a\r\nX: y", "a\x00", "a\x7f", "ä", "a%20", "a,b", longest + "a",
	} {
		require.False(t, validName(s), "%q", s)
	}
}

func FuzzValidName(f *testing.F) {
	f.Add("github")
	f.Add("a\r\nb")
	vault := regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)
	f.Fuzz(func(t *testing.T, s string) {
		// In Go, $ without the flag m is the end of the text alone.
		require.Equal(t, vault.MatchString(s), validName(s), "%q", s)
	})
}

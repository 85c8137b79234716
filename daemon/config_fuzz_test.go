package daemon

import (
	"strings"
	"testing"
)

// FuzzConfig feeds files to the loader. Whatever they hold, it neither panics nor
// hangs, tells of each mistake in one line with the file's name before it, and
// repeats no secret.
func FuzzConfig(f *testing.F) {
	for _, seed := range []string{
		"", "grant:\n  file: /x\n", "access:\n- {users: [1], services: ['*']}\n", "log: {level: info, level: warn}\n",
		"a: &a [*a]\n", "? x\n: y\n", "!!map {}\n", "grant:\n  file: CANARY0secret9\n", "CANARY0secret9: x\n", "- - -\n", "%YAML 1.2\n---\n",
		"grant: |\n  CANARY0secret9\n", "{", "\"CANARY0secret9", "cache: {prefetch: [CANARY0secret9, 'a b']}\n",
	} {
		f.Add(seed)
	}
	const canary = "CANARY0secret9"
	f.Fuzz(func(t *testing.T, content string) {
		_, err := inMemory(content)
		if err == nil {
			return
		}
		said := err.Error()
		if strings.Contains(said, canary) {
			t.Errorf("a secret is repeated: %q", said)
		}
		for line := range strings.SplitSeq(said, "\n") {
			if !strings.HasPrefix(line, "c.yaml") {
				t.Errorf("a line without its place: %q", line)
			}
		}
	})
}

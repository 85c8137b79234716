// Package packaging holds what grantexd is installed with. The only Go in it are
// tests that its files agree with the program.
package packaging

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/grantexd/grantexd/daemon"
)

// sharedLedger is the one setting of the packaged configuration.
const sharedLedger = "/var/lib/grantex-ledger/budget.ledger"

// load reads a configuration as a service does: neither root nor a user.
func load(t *testing.T, content string) *daemon.Config {
	t.Helper()
	file := filepath.Join(t.TempDir(), "config.yaml")
	require.NoError(t, os.WriteFile(file, []byte(content), 0o600))
	config, warnings, err := daemon.Load(daemon.LoadOptions{File: file, UID: 995, Lookup: everybody{}})
	require.NoError(t, err)
	require.Empty(t, warnings)
	return config
}

// everybody knows all users and groups.
type everybody struct{}

func (everybody) UID(string) (uint32, error) { return 1000, nil }
func (everybody) GID(string) (uint32, error) { return 1000, nil }

func packagedConfig(t *testing.T) string {
	t.Helper()
	content, err := os.ReadFile("config.yaml")
	require.NoError(t, err)
	return string(content)
}

func TestPackagedConfigSharesTheLedgerAndChangesNothingElse(t *testing.T) {
	want := load(t, "")
	want.Budget.Ledger = sharedLedger
	require.Equal(t, want, load(t, packagedConfig(t)))
}

func TestPackagedConfigShowsTheDefaults(t *testing.T) {
	shown := load(t, uncommented(packagedConfig(t)))
	require.Len(t, shown.Access, 2, "the examples of rules")
	usual := load(t, "")
	for _, key := range daemon.Reference() {
		if !key.Common || example[key.Name] {
			continue
		}
		require.Equal(t, key.Value(usual), key.Value(shown), key.Name)
	}
}

// example are the keys whose line shows not the default, which is to have none,
// but what a value looks like.
var example = map[string]bool{
	"upstream.ca-file": true, "socket.group": true, "audit.file": true, "budget.ledger": true,
}

func TestPackagedConfigShowsEveryCommonKey(t *testing.T) {
	content := uncommented(packagedConfig(t))
	for _, key := range daemon.Reference() {
		group, name, _ := strings.Cut(key.Name, ".")
		_, after, found := strings.Cut(content, "\n"+group+":\n")
		require.True(t, found, group)
		end := regexp.MustCompile(`(?m)^\S`).FindStringIndex(after)
		if end != nil {
			after = after[:end[0]]
		}
		shown := strings.Contains("\n"+after, "\n  "+name+": ")
		require.Equal(t, key.Common, shown, key.Name)
	}
}

// uncommented makes the lines that show a key count.
func uncommented(content string) string {
	content = regexp.MustCompile(`(?m)^  #([a-z-]+: )`).ReplaceAllString(content, "  $1")
	_, rules, _ := strings.Cut(content, "#access:\n")
	before := strings.TrimSuffix(content, "#access:\n"+rules)
	return before + "access:\n" + regexp.MustCompile(`(?m)^#`).ReplaceAllString(rules, "")
}

package main

import (
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const module = "github.com/grantexd/grantexd/"

// arrows says which packages of the project each one may import, directly or
// not, and why no others. A package that is not listed fails the test: say here
// where it belongs.
var arrows = map[string]struct {
	may []string
	why string
}{
	"upstream/secret":   {nil, "every layer holds secrets, so it must not depend on any"},
	"upstream/clock":    {nil, "every layer tells the time, so it must not depend on any"},
	"upstream":          {[]string{"upstream/secret", "upstream/clock"}, "a client of the vault knows nothing of who uses it"},
	"upstream/budget":   {[]string{"upstream", "upstream/secret", "upstream/clock"}, "the budget sits below the client and sees departures only"},
	"upstream/devvault": {[]string{"upstream/secret", "upstream/clock"}, "the embedded vault must not share the client's mistakes"},
	"daemon/grant":      {[]string{"upstream/secret", "upstream/clock"}, "the watched file knows neither the vault nor the cache"},
	"daemon/broker":     {[]string{"upstream", "upstream/secret", "upstream/clock", "daemon/grant"}, "the broker declares what it needs of the budget and the socket as interfaces and hooks"},
	"socketapi/peer":    {[]string{"upstream/clock"}, "who is calling is asked of the kernel alone"},
	"socketapi/access":  {[]string{"socketapi/peer", "upstream/clock"}, "the rules are a pure function of caller and service"},
	"socketapi/audit":   {[]string{"socketapi/peer", "upstream/secret", "upstream/clock"}, "the audit records what it is told and decides nothing"},
	"socketapi/wire":    {[]string{"upstream/secret"}, "what is on the wire must be usable by a client without the daemon"},
	"socketapi/client":  {[]string{"socketapi/wire", "upstream/secret"}, "a client must not pull in the daemon"},
	"socketapi":         {[]string{"socketapi/access", "socketapi/audit", "socketapi/peer", "socketapi/wire", "upstream/secret", "upstream/clock"}, "the API serves from an interface of its own and never knows the broker"},
	"systemd":           {nil, "running under systemd concerns no other layer"},
	"packaging":         {[]string{"*", "!cmd/grantexd"}, "tests that what is installed agrees with the program"},
	"daemon":            {[]string{"*", "!upstream/devvault", "!socketapi/client", "!cmd/grantexd"}, "the daemon joins the layers; the embedded vault and the client are for the commands"},
	"cmd/grantexd":      {[]string{"*"}, ""},
}

func TestPackagesImportOnlyWhatTheyMay(t *testing.T) {
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}} {{join .Deps ","}}`, module+"...").Output()
	require.NoError(t, err)
	for line := range strings.Lines(string(out)) {
		path, deps, _ := strings.Cut(strings.TrimSpace(line), " ")
		name := strings.TrimPrefix(path, module)
		arrow, listed := arrows[name]
		if !listed {
			t.Errorf("%s is not in the table of arrows: add it, with the reason", name)
			continue
		}
		for dep := range strings.SplitSeq(deps, ",") {
			dep, ours := strings.CutPrefix(dep, module)
			if ours && !allowed(arrow.may, dep) {
				t.Errorf("%s must not import %s: %s", name, dep, arrow.why)
			}
		}
	}
}

func allowed(may []string, dep string) bool {
	if slices.Contains(may, "!"+dep) {
		return false
	}
	return slices.Contains(may, "*") || slices.Contains(may, dep)
}

package socketapi

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/grantexd/grantexd/socketapi/access"
	"github.com/grantexd/grantexd/socketapi/audit"
	"github.com/grantexd/grantexd/socketapi/wire"
)

// audited serves with an audit file and returns what stands in it after the stop.
func audited(t *testing.T, o Options, use func(run *running)) []map[string]any {
	t.Helper()
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	log, err := audit.New(audit.Options{Path: path})
	require.NoError(t, err)
	o.Audit = log
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- log.Run(ctx) }()
	run := startAPI(t, o, 0o666)
	use(run)
	run.stop()
	cancel()
	require.NoError(t, <-done)
	require.NoError(t, log.Close())
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	requireNoCanary(t, string(content))
	var lines []map[string]any
	for line := range strings.Lines(string(content)) {
		var fields map[string]any
		require.NoError(t, json.Unmarshal([]byte(line), &fields), line)
		lines = append(lines, fields)
	}
	return lines
}

func TestReleasesStandInTheAudit(t *testing.T) {
	lines := audited(t, Options{Source: newFakeSource("github")}, func(run *running) {
		c := run.dial(t)
		for range 5 {
			get200(t, c, "/v1/credentials/github")
		}
		get200(t, c, "/v1/credentials")
		get200(t, c, "/v1/explain/github")
		status, _, err := get(c, "/v1/credentials/missing")
		require.NoError(t, err)
		require.Equal(t, http.StatusNotFound, status)
	})
	require.Len(t, lines, 2, "the first release, and the count of the rest: %v", lines)
	for _, line := range lines {
		require.Equal(t, selfPrincipal, line["principal"])
		require.Equal(t, "github", line["service"])
		require.Equal(t, testFingerprint, line["fingerprint"])
		require.Equal(t, "x-1", line["exchange"])
	}
}

func TestDenialsStandInTheAudit(t *testing.T) {
	o := Options{
		Source: newFakeSource("github"),
		Access: rules(t, access.Rule{Users: []string{"4000000"}, Services: []string{"*"}}),
	}
	lines := audited(t, o, func(run *running) {
		for range 50 {
			status, _, err := get(run.dial(t), "/v1/credentials/github")
			require.NoError(t, err)
			require.Equal(t, http.StatusForbidden, status)
		}
		status, _, err := exchange(run.dial(t), "GET /v1/status HTTP/1.1\r\nHost: evil.example\r\n\r\n")
		require.NoError(t, err)
		require.Equal(t, http.StatusForbidden, status)
	})
	require.NotEmpty(t, lines)
	require.Less(t, len(lines), 10, "a denied caller can't fill the disk")
	require.Equal(t, selfPrincipal, lines[0]["principal"])
}

// TestExplainIsNoRelease also shows that a denied one stands in the audit, unless
// it was asked for another caller.
func TestExplainIsNoRelease(t *testing.T) {
	o := Options{
		Source: newFakeSource("github"),
		Access: rules(t, access.Rule{Users: []string{"4000000"}, Services: []string{"*"}}),
	}
	as := func(uid int) string { return fmt.Sprintf("/v1/explain/github?as=%d:1", uid) }
	lines := audited(t, o, func(run *running) {
		c := run.dial(t)
		get200(t, c, as(4000000))
		get200(t, c, as(4000001))
	})
	require.Empty(t, lines)
	lines = audited(t, o, func(run *running) { get200(t, run.dial(t), "/v1/explain/github") })
	require.Len(t, lines, 1)
	require.Equal(t, selfPrincipal, lines[0]["principal"])
	require.Equal(t, "github", lines[0]["service"])
	require.NotContains(t, lines[0], "fingerprint")
}

func TestNothingIsReleasedThatCanNotBeRecorded(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "d")
	require.NoError(t, os.Mkdir(dir, 0o700))
	log, err := audit.New(audit.Options{Path: filepath.Join(dir, "audit.jsonl"), Required: true})
	require.NoError(t, err)
	require.NoError(t, log.Close())
	require.NoError(t, os.RemoveAll(dir))
	a, _ := newAPI(t, Options{Source: newFakeSource("github"), Audit: log})
	for _, c := range forService("github") {
		if strings.Contains(c.path, "explain") {
			continue
		}
		w := c.do(a)
		requireError(t, w, wire.CodeInternal)
		requireNoCanary(t, w.Body.String())
	}
}

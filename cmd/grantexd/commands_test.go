package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/grantexd/grantexd/socketapi/client"
	"github.com/grantexd/grantexd/socketapi/wire"
	"github.com/grantexd/grantexd/upstream"
	"github.com/grantexd/grantexd/upstream/secret"
)

// everyCommand calls visit for each command.
func everyCommand(cmd *cobra.Command, visit func(*cobra.Command)) {
	visit(cmd)
	for _, c := range cmd.Commands() {
		everyCommand(c, visit)
	}
}

func TestEveryCommandHelpsItself(t *testing.T) {
	root := (&app{}).rootCommand()
	everyCommand(root, func(cmd *cobra.Command) {
		if strings.HasPrefix(cmd.CommandPath(), "grantexd completion") || cmd.Name() == "help" || !cmd.Runnable() {
			return // cobra's own, and the help topics
		}
		t.Run(cmd.CommandPath(), func(t *testing.T) {
			require.NotEmpty(t, cmd.Short)
			require.Contains(t, cmd.Example, cmd.CommandPath(), "one real example")
			require.NotContains(t, cmd.Short, ".")
			require.NotNil(t, cmd.Args, "arguments are checked")
			require.NotNil(t, cmd.RunE)
		})
	})
}

func TestNoFlagTakesASecret(t *testing.T) {
	everyCommand((&app{}).rootCommand(), func(cmd *cobra.Command) {
		for _, name := range []string{"token", "api-key", "access-token", "refresh-token", "grant-token", "password"} {
			require.Nil(t, cmd.Flags().Lookup(name), "%s --%s", cmd.CommandPath(), name)
		}
	})
}

func TestHarden(t *testing.T) {
	var before, during, after unix.Rlimit
	require.NoError(t, unix.Getrlimit(unix.RLIMIT_CORE, &before))
	restore, err := harden()
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0)) })
	dumpable, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	require.NoError(t, err)
	require.Zero(t, dumpable)
	require.NoError(t, unix.Getrlimit(unix.RLIMIT_CORE, &during))
	require.Zero(t, during.Cur)
	require.NoError(t, restore())
	require.NoError(t, unix.Getrlimit(unix.RLIMIT_CORE, &after))
	require.Equal(t, before, after)
}

func TestExitCodes(t *testing.T) {
	dial := &client.DialError{Socket: "/s", Hint: "h", Err: errors.New("gone")}
	for name, tc := range map[string]struct {
		err  error
		want int
	}{
		"none":                  {nil, exitOK},
		"unknown":               {errors.New("x"), exitFailure},
		"usage":                 {usagef("x"), exitUsage},
		"wrapped usage":         {fmt.Errorf("y: %w", usagef("x")), exitUsage},
		"no daemon":             {fmt.Errorf("y: %w", dial), exitUnreachable},
		"BAD_REQUEST":           {&wire.Error{Code: wire.CodeBadRequest}, exitUsage},
		"UNAUTHORIZED":          {&wire.Error{Code: wire.CodeUnauthorized}, exitRefused},
		"PEER_DENIED":           {&wire.Error{Code: wire.CodePeerDenied}, exitRefused},
		"NOT_FOUND":             {&wire.Error{Code: wire.CodeNotFound}, exitNotFound},
		"NO_SUCH_ROUTE":         {&wire.Error{Code: wire.CodeNoSuchRoute}, exitFailure},
		"RATE_LIMITED":          {&wire.Error{Code: wire.CodeRateLimited}, exitLimited},
		"CREDENTIAL_EXPIRED":    {&wire.Error{Code: wire.CodeCredentialExpired}, exitUpstream},
		"UPSTREAM_TIMEOUT":      {&wire.Error{Code: wire.CodeUpstreamTimeout}, exitUpstream},
		"GRANT_UNAVAILABLE":     {&wire.Error{Code: wire.CodeGrantUnavailable}, exitNoGrant},
		"INTERNAL":              {&wire.Error{Code: wire.CodeInternal}, exitFailure},
		"vault 400":             {&upstream.Error{Status: 400, Code: "VALIDATION_ERROR"}, exitUsage},
		"vault 401":             {&upstream.Error{Status: 401, Code: "UNAUTHORIZED"}, exitRefused},
		"vault 403":             {&upstream.Error{Status: 403, Code: "FORBIDDEN"}, exitRefused},
		"vault 404":             {&upstream.Error{Status: 404, Code: "NOT_FOUND"}, exitNotFound},
		"vault 429":             {&upstream.Error{Status: 429, Code: "RATE_LIMITED"}, exitLimited},
		"vault 500":             {&upstream.Error{Status: 500, Code: "INTERNAL_ERROR"}, exitUpstream},
		"not the vault, 401":    {&upstream.Error{Status: 401}, exitUpstream},
		"not the vault, 404":    {&upstream.Error{Status: 404}, exitUpstream},
		"vault malformed":       {&upstream.MalformedError{}, exitUpstream},
		"vault silent":          {fmt.Errorf("x: %w", upstream.ErrTimeout), exitUpstream},
		"vault away":            {fmt.Errorf("x: %w", upstream.ErrConnect), exitUpstream},
		"vault, not a service":  {upstream.ErrInvalidService, exitUsage},
		"command can't be run":  {withExit(exitCannotRun, errors.New("x")), exitCannotRun},
		"command doesn't exist": {withExit(exitNoCommand, errors.New("x")), exitNoCommand},
	} {
		require.Equal(t, tc.want, exitCodeOf(tc.err), name)
		require.Contains(t, exitCodeTable(), fmt.Sprintf("  %3d  ", tc.want), "every code is documented")
	}
}

func TestParseExpiry(t *testing.T) {
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]string{
		"":                          "0001-01-01T00:00:00Z",
		"8h":                        "2026-11-21T20:00:00Z",
		"90m30s":                    "2026-11-21T13:30:30Z",
		"30d":                       "2026-12-21T12:00:00Z",
		"1ms":                       "2026-11-21T12:00:00.001Z",
		"2027-01-31T12:00:00Z":      "2027-01-31T12:00:00Z",
		"2027-01-31T12:00:00+02:00": "2027-01-31T10:00:00Z",
		"2027-01-31T12:00:00+0200":  "2027-01-31T10:00:00Z",
		"2027-01-31T12:00Z":         "2027-01-31T12:00:00Z",
		"20270131T120000Z":          "2027-01-31T12:00:00Z",
		"2027-01-31T12:00:00.1239Z": "2027-01-31T12:00:00.123Z",
		"2026-11-21T12:00:01Z":      "2026-11-21T12:00:01Z",
		"9999-12-31T23:59:59Z":      "9999-12-31T23:59:59Z",
	} {
		got, err := parseExpiry(text, now, false)
		require.NoError(t, err, text)
		require.Equal(t, want, got.Format(time.RFC3339Nano), text)
	}
	for text, want := range map[string]string{
		"2026-11-21T12:00:00Z": "is past", "-1h": "is past", "0s": "is past", "0d": "is past", "2020-01-01T00:00:00Z": "is past",
		"3000000d": "too far away", "2027-01-31T12:00:00": "with its zone", "2027-01-31": "with its zone",
		"tomorrow": "not understood", "-1d": "not understood", "8": "not understood", "1795291236": "not understood",
		"2027-02-30T12:00:00Z": "not understood",
	} {
		_, err := parseExpiry(text, now, false)
		require.ErrorContains(t, err, want, text)
		require.Equal(t, exitUsage, exitCodeOf(err))
	}
}

func TestSplitField(t *testing.T) {
	for text, want := range map[string][2]string{
		"github":                       {"github", "accessToken"},
		"github.com":                   {"github.com", "accessToken"},
		"github.accessToken":           {"github", "accessToken"},
		"github.com.tokenExpiresAt":    {"github.com", "tokenExpiresAt"},
		"github.metadata":              {"github", "metadata"},
		"github.metadata.login":        {"github", "metadata.login"},
		"github.com.metadata.a.b":      {"github.com", "metadata.a.b"},
		"metadata.x":                   {"metadata.x", "accessToken"},
		".metadata.x":                  {".metadata.x", "accessToken"},
		"github.metadata.a.metadata.b": {"github", "metadata.a.metadata.b"},
	} {
		service, field := splitField(text)
		require.Equal(t, want, [2]string{service, field}, text)
	}
}

func TestFieldOf(t *testing.T) {
	c := &wire.Credential{
		AccessToken: secret.New("gho_x"), Service: "github", CredentialType: "oauth2",
		Metadata: json.RawMessage(`{"login":"octocat","id":7,"on":true,"none":null,"deep":{"a":{"b":"c"}},"list":[1, 2]}`),
	}
	for field, want := range map[string]string{
		"accessToken": "gho_x", "service": "github", "credentialType": "oauth2", "tokenExpiresAt": "", "metadata.login": "octocat",
		"metadata.id": "7", "metadata.on": "true", "metadata.none": "null", "metadata.deep.a.b": "c", "metadata.deep.a": `{"b":"c"}`,
		"metadata.list": "[1, 2]",
	} {
		got, err := fieldOf(c, field)
		require.NoError(t, err, field)
		require.Equal(t, want, got, field)
	}
	c.TokenExpiresAt = time.Date(2026, 1, 2, 3, 4, 5, 6e6, time.FixedZone("", 3600))
	got, err := fieldOf(c, "tokenExpiresAt")
	require.NoError(t, err)
	require.Equal(t, "2026-01-02T02:04:05.006Z", got)
	for field, code := range map[string]int{
		"metadata.x": exitNotFound, "metadata.login.x": exitNotFound, "metadata.": exitNotFound, "token": exitUsage, "": exitUsage,
	} {
		_, err := fieldOf(c, field)
		require.Equal(t, code, exitCodeOf(err), field)
	}
}

func TestEnviron(t *testing.T) {
	got := environ([]string{
		"PATH=/bin", "A=old", "AB=kept", "GRANTEXD_SOCKET=/s", "GRANTEX_API_KEY=k", "GRANTEX_OTHER=kept", "LISTEN_PID=1", "A=older", "odd",
	}, []string{"A=new", "B=x=y"})
	require.Equal(t, []string{"PATH=/bin", "AB=kept", "GRANTEX_OTHER=kept", "odd", "A=new", "B=x=y"}, got)
}

func TestShown(t *testing.T) {
	for word, want := range map[string]string{
		"statsu": "statsu", "re-load": "re-load", "ghp_x": "the given word", "eyJhbGci.x.y": "the given word",
		strings.Repeat("a", 24): strings.Repeat("a", 24), strings.Repeat("a", 25): "the given word",
	} {
		require.Equal(t, want, shown(word))
	}
}

func TestTableAndColours(t *testing.T) {
	for _, on := range []bool{false, true} {
		p := palette{on: on}
		var table table
		table.row("a", p.good("ok"), "x")
		table.row("bcd", "error", "")
		table.row("é", p.bad("no"), "z")
		var out strings.Builder
		require.NoError(t, table.print(&out))
		uncoloured := out.String()
		require.Equal(t, on, strings.Contains(uncoloured, "\x1b[32mok\x1b[0m"))
		for _, code := range []string{"\x1b[32m", "\x1b[31m", "\x1b[0m"} {
			uncoloured = strings.ReplaceAll(uncoloured, code, "")
		}
		require.Equal(t, "a    ok     x\nbcd  error\né    no     z\n", uncoloured)
	}
	a := &app{stdio: stdio{out: new(bytes.Buffer)}}
	require.False(t, a.palette().on, "no colours but on a terminal")
}

func TestPlain(t *testing.T) {
	require.Equal(t, "a?[2Jb?c?d é", plain("a\x1b[2Jb\nc\u009bd é"))
}

func TestSeconds(t *testing.T) {
	for s, want := range map[float64]string{
		0: "0s", 0.016: "20ms", 1.4: "1s", 59: "59s", 90: "1m30s", 3599: "59m59s", 3600: "1h0m", 86340: "23h59m", 172800: "48h", -90: "-1m30s",
	} {
		require.Equal(t, want, seconds(s))
	}
}

func TestQuoted(t *testing.T) {
	for word, want := range map[string]string{
		"./a.sock": "./a.sock", "a b": "'a b'", "": "''", "it's": `'it'\''s'`, "$HOME": "'$HOME'",
	} {
		require.Equal(t, want, quoted(word))
	}
}

func TestReadSecret(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
		return path
	}
	a := &app{stdio: stdio{in: strings.NewReader("from-stdin\r\n")}}
	for path, want := range map[string]string{
		"-": "from-stdin", write("plain", "token"): "token", write("newline", "token\n"): "token", write("inner", " to ken \n\n"): " to ken ",
		write("full", strings.Repeat("x", maxSecret)): strings.Repeat("x", maxSecret),
	} {
		got, err := a.readSecret(path, "--token-file")
		require.NoError(t, err, path)
		require.Equal(t, want, got.Reveal())
	}
	for path, want := range map[string]string{
		write("empty", ""): "nothing in it", write("white", " \n"): "nothing in it", filepath.Join(dir, "none"): "no such file",
		write("large", strings.Repeat("canary", maxSecret)): "more than 64 KiB",
	} {
		_, err := a.readSecret(path, "--token-file")
		require.ErrorContains(t, err, want)
		require.Equal(t, exitUsage, exitCodeOf(err))
		require.NotContains(t, err.Error(), "canary")
	}
}

func TestSecretFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, createSecret(path, []byte("one")))
	require.ErrorIs(t, createSecret(path, []byte("two")), os.ErrExist, "a file that is there stays")
	require.NoError(t, os.Chmod(path, 0o644))
	require.NoError(t, replaceSecret(path, []byte("three")))
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, "three", string(content))
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	require.Error(t, replaceSecret(filepath.Join(path, "x"), nil))
	entries, err := os.ReadDir(filepath.Dir(path))
	require.NoError(t, err)
	require.Len(t, entries, 1, "no temporary file stays")
}

func TestUntilSignal(t *testing.T) {
	boom := errors.New("boom")
	require.ErrorIs(t, untilSignal(t.Context(), func(context.Context) error { return boom }), boom)
	require.NoError(t, untilSignal(t.Context(), func(ctx context.Context) error {
		require.NoError(t, unix.Kill(os.Getpid(), unix.SIGTERM))
		<-ctx.Done()
		return nil
	}))
	stuck := make(chan struct{})
	defer close(stuck)
	require.ErrorIs(t, untilSignal(t.Context(), func(ctx context.Context) error {
		require.NoError(t, unix.Kill(os.Getpid(), unix.SIGINT))
		<-ctx.Done()
		require.NoError(t, unix.Kill(os.Getpid(), unix.SIGINT))
		<-stuck
		return nil
	}), errKilled, "a second signal does not wait")
}

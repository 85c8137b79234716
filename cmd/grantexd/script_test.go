package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/stretchr/testify/require"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"grantexd": main})
}

// TestScripts runs the commands as a user does: each script in a directory of its
// own, with real processes.
func TestScripts(t *testing.T) {
	// A socket's path is short, and t.TempDir's is not.
	root, err := os.MkdirTemp("", "gx")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(root)) })
	testscript.Run(t, testscript.Params{
		Dir:                 filepath.Join("testdata", "script"),
		WorkdirRoot:         root,
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(e *testscript.Env) error {
			// Nothing of the machine's own decides, and temporary files are seen.
			e.Setenv("TMPDIR", filepath.Join(e.WorkDir, "tmp"))
			e.Setenv("XDG_RUNTIME_DIR", filepath.Join(e.WorkDir, "run"))
			e.Setenv("GRANTEXD_SOCKET", filepath.Join(e.WorkDir, "s.sock"))
			e.Setenv("TZ", "UTC")
			// Under the race detector each process would end with a second's sleep.
			e.Setenv("GORACE", "atexit_sleep_ms=0")
			return errors.Join(os.Mkdir(filepath.Join(e.WorkDir, "tmp"), 0o700), os.Mkdir(filepath.Join(e.WorkDir, "run"), 0o700))
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits, "word": word, "empty": empty, "mode": mode,
		},
	})
}

// exits runs a command that must end with an exit code: exits 3 grantexd get x.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND …")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("exit code %d, expected %d", got, want)
	}
}

// word puts a word of a file into a variable: word NAME FILE KEY is what follows
// KEY on the line that begins with it.
func word(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: word NAME FILE KEY")
	}
	for line := range strings.Lines(ts.ReadFile(args[1])) {
		if rest, ok := strings.CutPrefix(strings.TrimSpace(line), args[2]); ok && strings.TrimSpace(rest) != "" {
			ts.Setenv(args[0], strings.Fields(rest)[0])
			return
		}
	}
	ts.Fatalf("no line of %s begins with %q", args[1], args[2])
}

// empty demands that a directory has nothing in it.
func empty(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: empty DIR")
	}
	entries, err := os.ReadDir(ts.MkAbs(args[0]))
	ts.Check(err)
	if len(entries) > 0 {
		ts.Fatalf("%s holds %v", args[0], entries)
	}
}

// mode demands a file's permissions: mode 0600 FILE.
func mode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: mode MODE FILE")
	}
	want, err := strconv.ParseUint(args[0], 8, 32)
	ts.Check(err)
	info, err := os.Lstat(ts.MkAbs(args[1]))
	ts.Check(err)
	if info.Mode().Perm() != os.FileMode(want) {
		ts.Fatalf("%s has the mode %04o, expected %s", args[1], info.Mode().Perm(), args[0])
	}
}

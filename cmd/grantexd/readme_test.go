package main

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var (
	shellBlock      = regexp.MustCompile("(?s)```sh\n(.*?)```")
	transcriptBlock = regexp.MustCompile("(?s)```console\n(.*?)```")
	timestamp       = regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z`)
)

// TestREADME runs what the README says, as it stands there: its first command
// starts the daemon on the embedded vault, its transcript is true of it, and its
// second command is the one that runs this test.
func TestREADME(t *testing.T) {
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("the README's transcript needs curl, which is not here")
	}
	readme, err := os.ReadFile("../../README.md")
	require.NoError(t, err)
	shell := shellBlock.FindAllStringSubmatch(string(readme), -1)
	transcript := transcriptBlock.FindStringSubmatch(string(readme))
	require.Len(t, shell, 2, "two commands do all the set-up")
	require.NotNil(t, transcript)
	require.Equal(t, "go test ./...", strings.TrimSpace(shell[1][1]))
	lines := bytes.Count(readme[:bytes.Index(readme, []byte("```sh"))], []byte("\n"))
	require.Less(t, lines, 20, "runnable by line 20")

	root, err := filepath.Abs("../..")
	require.NoError(t, err)
	socket := filepath.Join(root, "grantexd.sock")
	require.NoFileExists(t, socket, "somebody follows the README here already: end that first")
	start(t, root, shell[0][1])
	require.Eventually(t, func() bool {
		conn, err := net.Dial("unix", socket)
		return err == nil && conn.Close() == nil
	}, time.Minute, 20*time.Millisecond)
	for _, entry := range strings.Split(transcript[1], "$ ")[1:] {
		command, want, _ := strings.Cut(entry, "\n")
		out, err := shellCommand(root, command).Output()
		require.NoError(t, err, command)
		require.Regexp(t, pattern(want), string(out), command)
	}
}

// pattern is what the output of a transcript must look like: "…" stands for
// anything, and times differ.
func pattern(want string) string {
	quoted := regexp.QuoteMeta(strings.TrimSpace(want))
	quoted = strings.ReplaceAll(quoted, "…", `[A-Za-z0-9]+`)
	quoted = timestamp.ReplaceAllString(strings.ReplaceAll(quoted, `\.`, "."), `\d{4}-\d\d-\d\dT[\d:.]+Z`)
	return `^` + quoted + `\s*$`
}

func shellCommand(dir, command string) *exec.Cmd {
	cmd := exec.Command("sh", "-c", command)
	cmd.Dir = dir
	return cmd
}

// start runs a command until the test ends, with all that it starts.
func start(t *testing.T, dir, command string) {
	t.Helper()
	cmd := shellCommand(dir, command)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		require.NoError(t, syscall.Kill(-cmd.Process.Pid, syscall.SIGINT))
		_ = cmd.Wait() // it was interrupted
		require.Eventually(t, func() bool {
			_, err := os.Lstat(filepath.Join(dir, "grantexd.sock"))
			return os.IsNotExist(err)
		}, 10*time.Second, 20*time.Millisecond, "nothing stays behind")
	})
}

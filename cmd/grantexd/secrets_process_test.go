package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// stranger is a user that owns nothing.
const stranger = 64321

// asStranger lets the commands of a stage run as a user without privileges, in a
// directory of its own.
func (s *stage) asStranger() *syscall.SysProcAttr {
	s.t.Helper()
	if os.Geteuid() != 0 {
		s.t.Skip("only root can start processes of another user")
	}
	for _, path := range []string{s.dir, s.grant} {
		require.NoError(s.t, os.Chown(path, stranger, stranger))
	}
	// The parents of a test's directory are for its owner alone.
	for dir := s.dir; dir != "/"; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		require.NoError(s.t, err)
		if info.Mode().Perm()&0o011 != 0o011 {
			require.NoError(s.t, os.Chmod(dir, info.Mode()|0o011))
		}
	}
	require.NoError(s.t, os.Chmod(filepath.Dir(s.binary), 0o755))
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: stranger, Gid: stranger}}
}

// holding starts a daemon that holds a credential with the token.
func (s *stage) holding(token string, as *syscall.SysProcAttr) *exec.Cmd {
	s.t.Helper()
	s.store("github", token)
	// A shell lifts the limit on core dumps as far as it goes.
	cmd := exec.Command("sh", "-c", `ulimit -c unlimited; exec "$@"`, "sh", s.binary, "serve", "--grant-file", s.grant,
		"--upstream", s.vault, "--socket", s.socket, "--state-dir", filepath.Join(s.dir, "state"), "--log-level", "debug")
	cmd.Dir, cmd.Stderr, cmd.SysProcAttr = s.dir, s.logs, as
	cmd.Env = append(os.Environ(), "GOTRACEBACK=crash") // or Go would exit instead of crashing
	require.NoError(s.t, cmd.Start())
	s.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	s.answers(time.Now())
	got, _, err := s.client.Get(s.t.Context(), "github", getOptions)
	require.NoError(s.t, err)
	require.Equal(s.t, token, got.AccessToken.Reveal())
	return cmd
}

func TestACrashLeavesNoCore(t *testing.T) {
	s := newStage(t)
	s.mint()
	daemon := s.holding("gho_core_canary", nil)
	require.NoError(t, daemon.Process.Signal(unix.SIGQUIT)) // Go prints its stacks, and crashes
	_ = daemon.Wait()
	state, ok := daemon.ProcessState.Sys().(syscall.WaitStatus)
	require.True(t, ok)
	require.True(t, state.Signaled(), "it crashed")
	require.False(t, state.CoreDump())
	s.requireNoTrace("gho_core_canary")
}

// requireNoTrace looks for a token in every file that the stage's processes
// wrote.
func (s *stage) requireNoTrace(token string) {
	s.t.Helper()
	require.NoError(s.t, filepath.WalkDir(s.dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		require.NotContains(s.t, string(content), token, path)
		return nil
	}))
}

func TestTheSameUserCantReadTheDaemonsMemory(t *testing.T) {
	s := newStage(t)
	s.mint()
	as := s.asStranger()
	daemon := s.holding("gho_memory_canary", as)
	pid := daemon.Process.Pid
	for _, file := range []string{"mem", "environ", "maps", "fd"} {
		read := exec.Command("ls", "-l", fmt.Sprintf("/proc/%d/%s/", pid, file))
		if file != "fd" {
			read = exec.Command("head", "-c", "1", fmt.Sprintf("/proc/%d/%s", pid, file))
		}
		read.SysProcAttr = as
		out, err := read.CombinedOutput()
		require.Error(t, err, file)
		require.Contains(t, string(out), "ermission denied", file)
	}
	cmdline, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	require.NoError(t, err)
	environ, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	require.NoError(t, err)
	jwt, err := os.ReadFile(s.grant)
	require.NoError(t, err)
	for _, secret := range []string{"gho_memory_canary", string(jwt[len(jwt)/2:])} {
		require.NotContains(t, string(cmdline)+string(environ), secret)
	}
	// What is not promised: root reads every memory, this one too.
	require.True(t, memoryHolds(t, pid, "gho_memory_canary"), "then the threat model can promise more")
}

// memoryHolds reports whether a process's memory holds a text, as root sees it.
func memoryHolds(t *testing.T, pid int, text string) bool {
	t.Helper()
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	require.NoError(t, err)
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	require.NoError(t, err)
	defer mem.Close()
	for line := range strings.Lines(string(maps)) {
		var from, to int64
		if _, err := fmt.Sscanf(line, "%x-%x rw", &from, &to); err != nil || to-from > 1<<28 {
			continue
		}
		content := make([]byte, to-from)
		if n, _ := mem.ReadAt(content, from); bytes.Contains(content[:n], []byte(text)) {
			return true
		}
	}
	return false
}

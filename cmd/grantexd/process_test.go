package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/grantexd/grantexd/socketapi/client"
)

// getOptions are those of a read that says nothing.
var getOptions client.GetOptions

// binary builds grantexd once for all tests that need real processes.
var binary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "grantexd-test-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "grantexd")
	out, err := exec.Command("go", "build", "-o", path, ".").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return path, nil
})

// stage is a vault and the place for a daemon, each a process of its own.
type stage struct {
	t             *testing.T
	binary        string
	dir           string
	vault, admin  string // base URLs
	grant, socket string
	client        *client.Client
	// logs is what all processes wrote to standard error.
	logs *os.File
}

func newStage(t *testing.T) *stage {
	t.Helper()
	path, err := binary()
	require.NoError(t, err)
	dir := t.TempDir()
	s := &stage{t: t, binary: path, dir: dir, grant: filepath.Join(dir, "grant"), socket: filepath.Join(dir, "s.sock")}
	s.client = &client.Client{Socket: s.socket}
	t.Cleanup(s.client.CloseIdleConnections)
	s.logs, err = os.Create(filepath.Join(dir, "log"))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.logs.Close()) })
	listen, admin := freeAddress(t), freeAddress(t)
	s.vault, s.admin = "http://"+listen, "http://"+admin
	s.start("devvault", "--listen", listen, "--admin", admin)
	require.Eventually(t, func() bool {
		return s.call("GET", s.vault+"/health", nil, nil) == nil && s.call("GET", s.admin+"/exchanges", nil, nil) == nil
	}, 10*time.Second, 5*time.Millisecond)
	return s
}

// freeAddress is a loopback address that nobody listens on at the moment.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	return l.Addr().String()
}

// start runs a command until the test ends, at the latest.
func (s *stage) start(args ...string) *exec.Cmd {
	s.t.Helper()
	cmd := exec.Command(s.binary, args...)
	cmd.Stderr = s.logs
	cmd.Env = append(os.Environ(), "HOME="+s.dir)
	require.NoError(s.t, cmd.Start())
	s.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd
}

func (s *stage) serve() *exec.Cmd {
	s.t.Helper()
	return s.start("serve", "--grant-file", s.grant, "--upstream", s.vault, "--socket", s.socket,
		"--state-dir", filepath.Join(s.dir, "state"), "--log-level", "debug")
}

// answers waits until the daemon answers, and returns how long that took.
func (s *stage) answers(since time.Time) time.Duration {
	s.t.Helper()
	for {
		conn, err := net.Dial("unix", s.socket)
		if err == nil {
			require.NoError(s.t, conn.Close())
			require.NoError(s.t, s.client.Health(s.t.Context()))
			return time.Since(since)
		}
		if time.Since(since) > 10*time.Second {
			log, _ := os.ReadFile(s.logs.Name())
			s.t.Fatalf("the daemon does not answer: %v\n%s", err, log)
		}
	}
}

func (s *stage) call(method, url string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(context.Background(), method, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	content, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode >= 300 {
		return fmt.Errorf("%s %s: %d %s: %w", method, url, resp.StatusCode, content, err)
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(content, out)
}

// mint puts a new grant into the grant file, as the JSON that the vault gives.
func (s *stage) mint() (grantID string) {
	s.t.Helper()
	var answer map[string]any
	require.NoError(s.t, s.call("POST", s.admin+"/grants", map[string]any{"scopes": []string{"*"}}, &answer))
	content, err := json.Marshal(answer)
	require.NoError(s.t, err)
	require.NoError(s.t, os.WriteFile(s.grant+".new", content, 0o600))
	require.NoError(s.t, os.Rename(s.grant+".new", s.grant))
	id, _ := answer["grantId"].(string)
	return id
}

func (s *stage) store(service, token string) {
	s.t.Helper()
	require.NoError(s.t, s.call("POST", s.admin+"/credentials",
		map[string]any{"principalId": "user_dev", "service": service, "accessToken": token}, nil))
}

// exchanges is what the vault has seen.
func (s *stage) exchanges() (total, mostInWindow int) {
	s.t.Helper()
	var seen struct {
		Total       int `json:"total"`
		MaxInWindow int `json:"maxInWindow"`
	}
	require.NoError(s.t, s.call("GET", s.admin+"/exchanges", nil, &seen))
	return seen.Total, seen.MaxInWindow
}

func (s *stage) get(service string) (string, error) {
	c, _, err := s.client.Get(s.t.Context(), service, client.GetOptions{Wait: -1})
	if err != nil {
		return "", err
	}
	return c.AccessToken.Reveal(), nil
}

func TestKilledThirtyTimesInARow(t *testing.T) {
	s := newStage(t)
	s.mint()
	for i := range 30 {
		s.store(fmt.Sprint("service", i), fmt.Sprint("token", i))
	}
	for i := range 30 {
		daemon := s.serve()
		s.answers(time.Now())
		for n := range 4 {
			_, _ = s.client.Status(t.Context())
			_, _, _ = s.client.Get(t.Context(), fmt.Sprint("service", (4*i+n)%30), client.GetOptions{Wait: 200 * time.Millisecond})
		}
		require.NoError(t, daemon.Process.Kill())
		_ = daemon.Wait()
		s.client.CloseIdleConnections()
	}
	total, most := s.exchanges()
	require.LessOrEqual(t, most, 20)
	require.GreaterOrEqual(t, total, 15, "a daemon that asks for nothing proves nothing")
	s.serve()
	s.answers(time.Now())
}

func TestSixtyFourProcessesMakeOneExchange(t *testing.T) {
	s := newStage(t)
	s.mint()
	s.store("github", "gho_shared")
	s.serve()
	s.answers(time.Now())
	var gets sync.WaitGroup
	for range 64 {
		gets.Go(func() {
			out, err := exec.Command(s.binary, "get", "github", "--socket", s.socket).CombinedOutput()
			if err != nil || strings.TrimSpace(string(out)) != "gho_shared" {
				t.Errorf("get: %v: %s", err, out)
			}
		})
	}
	gets.Wait()
	total, _ := s.exchanges()
	require.Equal(t, 1, total)
}

func TestSixtyFourCallersOfALimitedVault(t *testing.T) {
	s := newStage(t)
	s.mint()
	require.NoError(t, s.call("POST", s.admin+"/faults", map[string]any{"kind": "rate-limit", "retryAfter": "40s"}, nil))
	s.serve()
	s.answers(time.Now())
	var callers sync.WaitGroup
	var mu sync.Mutex
	slowest := time.Duration(0)
	for range 64 {
		callers.Go(func() {
			began := time.Now()
			_, _, err := s.client.Get(t.Context(), "github", client.GetOptions{})
			took := time.Since(began)
			mu.Lock()
			defer mu.Unlock()
			slowest = max(slowest, took)
			if err == nil || !strings.Contains(err.Error(), "limit") {
				t.Errorf("an answer that does not tell of the limit: %v", err)
			}
		})
	}
	callers.Wait()
	total, _ := s.exchanges()
	require.Equal(t, 1, total)
	t.Logf("the slowest answer took %s", slowest)
	require.Less(t, slowest, 100*time.Millisecond)
}

func TestRotationAndRemovalAcrossProcesses(t *testing.T) {
	s := newStage(t)
	s.mint()
	s.store("github", "gho_one")
	s.serve()
	s.answers(time.Now())
	token, _, err := s.client.Get(t.Context(), "github", client.GetOptions{})
	require.NoError(t, err)
	require.Equal(t, "gho_one", token.AccessToken.Reveal())

	before, _ := s.exchanges()
	s.mint()
	require.Eventually(t, func() bool {
		_, _, err := s.client.Get(t.Context(), "github", client.GetOptions{})
		now, _ := s.exchanges()
		return err == nil && now > before
	}, time.Second, 10*time.Millisecond, "a rotated grant is used within a second")

	require.NoError(t, os.Remove(s.grant))
	require.Eventually(t, func() bool {
		_, err := s.get("github")
		return err != nil
	}, 3*time.Second, 10*time.Millisecond, "a removed grant stops credentials")
}

// The bounds of what an idle daemon costs. The time is the best of several
// starts: what the machine does besides is not the daemon's.
const (
	maxIdleResident = 20 << 20
	maxStart        = 50 * time.Millisecond
)

func TestStartAndIdleCosts(t *testing.T) {
	s := newStage(t)
	s.mint()
	best := time.Hour
	var daemon *exec.Cmd
	for range 8 {
		if daemon != nil {
			require.NoError(t, daemon.Process.Kill())
			_ = daemon.Wait()
			s.client.CloseIdleConnections()
		}
		began := time.Now()
		daemon = s.serve()
		best = min(best, s.answers(began))
	}
	resident := residentBytes(t, daemon.Process.Pid)
	t.Logf("ready after %s, %.1f MB resident", best, float64(resident)/(1<<20))
	require.Less(t, best, maxStart)
	require.Less(t, resident, maxIdleResident)
}

func residentBytes(t *testing.T, pid int) int {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	require.NoError(t, err)
	for line := range strings.Lines(string(status)) {
		if kb, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			n, err := strconv.Atoi(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(kb), "kB")))
			require.NoError(t, err)
			return n << 10
		}
	}
	t.Fatal("no VmRSS")
	return 0
}

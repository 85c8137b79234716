package socketapi

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/grantexd/grantexd/socketapi/peer"
)

// childEnv makes the test binary do a task in another process, which may have
// another uid, instead of running tests.
const childEnv = "SOCKETAPI_TEST_CHILD"

func TestMain(m *testing.M) {
	if task := os.Getenv(childEnv); task != "" {
		if err := children[task](os.Args[1:]); err != nil {
			fmt.Println(err) // the test expects something else there
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

// children are the tasks of other processes, by name.
var children = map[string]func(args []string) error{
	"get":    childGet,
	"flood":  childFlood,
	"listen": childListen,
}

// child is a process that does a task.
type child struct {
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stdout *bufio.Reader
}

// asUser returns the credentials of a user with a group of the same number, and
// other groups.
func asUser(uid uint32, groups ...uint32) *syscall.Credential {
	return &syscall.Credential{Uid: uid, Gid: uid, Groups: groups}
}

// startChild starts a task, as another user unless that is nil.
func startChild(t *testing.T, as *syscall.Credential, task string, args ...string) *child {
	t.Helper()
	return startChildIn(t, 0, as, task, args...)
}

// startChildIn starts a task in new namespaces (clone(2)).
func startChildIn(t *testing.T, namespaces uintptr, as *syscall.Credential, task string, args ...string) *child {
	t.Helper()
	cmd := exec.Command(testBinary(t, as), args...)
	cmd.Env = append(os.Environ(), childEnv+"="+task)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: as, Cloneflags: namespaces}
	stdin, err := cmd.StdinPipe()
	require.NoError(t, err)
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	c := &child{cmd: cmd, stdin: stdin, stdout: bufio.NewReader(stdout)}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return c
}

// testBinary returns a path of the test binary that the user can execute.
func testBinary(t *testing.T, as *syscall.Credential) string {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	if as == nil {
		return self
	}
	// The directory that go test builds in is 0700.
	path := filepath.Join(openDir(t), "child")
	content, err := os.ReadFile(self)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, content, 0o755))
	return path
}

// line returns the next line that the child prints.
func (c *child) line(t *testing.T) string {
	t.Helper()
	s, err := c.stdout.ReadString('\n')
	require.NoError(t, err, "the child said %q and no more", s)
	return strings.TrimSuffix(s, "\n")
}

// needRoot skips a test that needs processes of several users.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root, to start processes of other users")
	}
}

// openDir returns a directory that other users can reach, unlike t.TempDir.
func openDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "socketapi")
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	require.NoError(t, os.Chmod(dir, 0o755))
	return dir
}

// childGet makes requests on the socket args[0], GET for each of the other
// arguments, and prints the status and the body of each.
func childGet(args []string) error {
	c, err := net.Dial("unix", args[0])
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	for _, path := range args[1:] {
		status, body, err := get(c, path)
		if err != nil {
			return err
		}
		fmt.Printf("%d %s\n", status, strings.TrimSpace(body))
	}
	return nil
}

// childFlood opens connections to the socket args[0], so fast that many are under
// way at once, until its input ends. It keeps those that are not refused.
func childFlood(args []string) error {
	var kept []net.Conn
	var mu sync.Mutex
	done := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(done)
	}()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for made := 0; made < 10000/8; {
				select {
				case <-done:
					return
				default:
				}
				c, err := net.Dial("unix", args[0])
				if err != nil {
					continue // the backlog is full
				}
				made++
				mu.Lock()
				kept = append(kept, c)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	fmt.Println("flooded")
	<-done
	return nil
}

// childListen listens on the socket args[0] until its input ends.
func childListen(args []string) error {
	l, err := Listen(ListenOptions{Path: args[0]})
	if err != nil {
		return err
	}
	fmt.Println("listening")
	_, _ = io.Copy(io.Discard, os.Stdin)
	return l.Close()
}

// get makes one request on c.
func get(c net.Conn, path string) (int, string, error) {
	return exchange(c, "GET "+path+" HTTP/1.1\r\nHost: grantexd\r\n\r\n")
}

// exchange sends raw bytes and reads one answer.
func exchange(c net.Conn, raw string) (int, string, error) {
	if _, err := io.WriteString(c, raw); err != nil {
		return 0, "", err
	}
	response, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	return response.StatusCode, string(body), err
}

// running is an API that serves on a socket.
type running struct {
	api  *API
	path string
	stop func() // and wait until it has stopped
	log  *syncBuffer
}

// startAPI serves source on a socket in a directory that others can reach.
func startAPI(t *testing.T, o Options, mode os.FileMode) *running {
	t.Helper()
	run := &running{path: filepath.Join(openDir(t), "grantexd.sock"), log: &syncBuffer{}}
	o.Logger = slog.New(slog.NewTextHandler(run.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	var err error
	run.api, err = New(o)
	require.NoError(t, err)
	l, err := Listen(ListenOptions{Path: run.path, Mode: mode})
	require.NoError(t, err)
	run.stop = serve(t, run.api, l)
	return run
}

// serve runs a until the function that it returns is called, or the test ends.
func serve(t *testing.T, a *API, listeners ...net.Listener) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Serve(ctx, listeners...) }()
	stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			require.NoError(t, err)
		case <-time.After(20 * time.Second):
			t.Error("Serve did not end")
		}
	})
	t.Cleanup(stop)
	return stop
}

// dial connects to the API.
func (r *running) dial(t *testing.T) net.Conn {
	t.Helper()
	c, err := net.Dial("unix", r.path)
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	require.NoError(t, c.SetDeadline(time.Now().Add(20*time.Second)))
	return c
}

// syncBuffer is a log that can be read while it is written.
type syncBuffer struct {
	mu sync.Mutex // guards b
	b  strings.Builder
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// selfPrincipal is the principal of this process on a socket.
var selfPrincipal = peer.As(uint32(os.Geteuid()), uint32(os.Getegid())).Principal()

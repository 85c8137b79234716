package socketapi

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/grantexd/grantexd/socketapi/access"
	"github.com/grantexd/grantexd/socketapi/client"
	"github.com/grantexd/grantexd/socketapi/wire"
)

func TestServeKnowsItsCallers(t *testing.T) {
	source := newFakeSource("github")
	run := startAPI(t, Options{Source: source}, 0)
	c := run.dial(t)
	for range 3 { // on one connection
		status, body, err := get(c, "/v1/credentials/github")
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, status)
		require.Contains(t, body, canary)
	}
	for _, r := range source.asked() {
		require.Equal(t, selfPrincipal, r.Caller)
	}
	run.stop()
	requireNoCanary(t, run.log.String())
	require.NoFileExists(t, run.path)
	require.NoFileExists(t, run.path+".lock")
}

func TestServeWithoutListeners(t *testing.T) {
	a, _ := newAPI(t, Options{Source: newFakeSource()})
	require.ErrorContains(t, a.Serve(context.Background()), "listener")
}

func TestServeOnlyOnce(t *testing.T) {
	run := startAPI(t, Options{Source: newFakeSource()}, 0)
	get200(t, run.dial(t), "/healthz") // it is running
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	require.NoError(t, err)
	require.ErrorContains(t, run.api.Serve(context.Background(), l), "once")
	require.ErrorIs(t, l.Close(), net.ErrClosed, "it closes what it was given")
}

func TestServeReportsAListenerThatFails(t *testing.T) {
	a, _ := newAPI(t, Options{Source: newFakeSource()})
	l, err := Listen(ListenOptions{Path: filepath.Join(t.TempDir(), "s")})
	require.NoError(t, err)
	require.ErrorContains(t, a.Serve(context.Background(), l, brokenListener{}), "broken for good")
	require.NoFileExists(t, l.Path(), "the other one is closed")
}

type brokenListener struct{}

func (brokenListener) Accept() (net.Conn, error) { return nil, errors.New("broken for good") }
func (brokenListener) Close() error              { return nil }
func (brokenListener) Addr() net.Addr            { return &net.UnixAddr{} }

// get200 makes a request that must succeed.
func get200(t *testing.T, c net.Conn, path string) string {
	t.Helper()
	status, body, err := get(c, path)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, status, body)
	return body
}

// TestEveryCallerAtEveryEndpoint has real processes of several users ask for
// everything.
func TestEveryCallerAtEveryEndpoint(t *testing.T) {
	needRoot(t)
	run := startAPI(t, Options{
		Source: newFakeSource("github", "slack"),
		Access: rules(t,
			access.Rule{Users: []string{"12001"}, Services: []string{"github"}},
			access.Rule{Groups: []string{"12500"}, Services: []string{"*"}}),
	}, 0o666)
	const (
		read, other, missing = "/v1/credentials/github", "/v1/credentials/slack", "/v1/credentials/missing"
		explain, explainAs   = "/v1/explain/github", "/v1/explain/github?as=12001:1"
		list                 = "/v1/credentials"
	)
	paths := []string{read, other, missing, explain, explainAs, list, "/v1/status", "/healthz", "/readyz", "/metrics"}
	both, one, none := `"github".*"slack"`, `"github"`, `"credentials":\[\]`
	cases := []struct {
		name     string
		in       uintptr // new namespaces
		as       *syscall.Credential
		statuses []int
		list     string
	}{
		{"a user whom a rule names", 0, asUser(12001), []int{200, 403, 403, 200, 403, 200, 200, 200, 200, 404}, one},
		{"a user whom none names", 0, asUser(12002), []int{403, 403, 403, 200, 403, 200, 200, 200, 200, 404}, none},
		{"a member of a group", 0, asUser(12002, 12500), []int{200, 200, 404, 200, 403, 200, 200, 200, 200, 404}, both},
		{"a user of that primary group", 0, asUser(12500), []int{200, 200, 404, 200, 403, 200, 200, 200, 200, 404}, both},
		{"the overflow user", 0, asUser(65534), []int{403, 403, 403, 200, 403, 200, 200, 200, 200, 404}, none},
		{"the user in another pid namespace", syscall.CLONE_NEWPID, asUser(12001), []int{200, 403, 403, 200, 403, 200, 200, 200, 200, 404}, one},
		{"root in another pid namespace", syscall.CLONE_NEWPID, nil, []int{403, 403, 403, 200, 200, 200, 200, 200, 200, 404}, none},
		{"root, the daemon's own user", 0, nil, []int{403, 403, 403, 200, 200, 200, 200, 200, 200, 404}, none},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			child := startChildIn(t, c.in, c.as, "get", append([]string{run.path}, paths...)...)
			for i, path := range paths {
				line := child.line(t)
				require.Equal(t, strconv.Itoa(c.statuses[i]), line[:3], "%s: %s", path, line)
				if path == explain {
					require.Regexp(t, fmt.Sprintf(`"allowed":%t`, c.statuses[0] == 200), line)
				}
				if path == list {
					require.Regexp(t, c.list, line)
				}
				if line[:3] != "200" {
					requireNoCanary(t, line)
				}
			}
		})
	}
}

func TestSocketModeKeepsOthersOut(t *testing.T) {
	needRoot(t)
	run := startAPI(t, Options{Source: newFakeSource("github")}, 0o600)
	require.Contains(t, startChild(t, asUser(12001), "get", run.path, "/healthz").line(t), "permission denied")
	require.Contains(t, startChild(t, nil, "get", run.path, "/healthz").line(t), "200")
}

func TestThousandSimultaneousConnects(t *testing.T) {
	run := startAPI(t, Options{Source: newFakeSource("github"), MaxConnsPerUID: 2000}, 0)
	const callers = 1000
	var ready, done sync.WaitGroup
	start := make(chan struct{})
	errs := make(chan error, callers)
	for range callers {
		ready.Add(1)
		done.Go(func() {
			ready.Done()
			<-start
			errs <- func() error {
				c, err := net.Dial("unix", run.path)
				if err != nil {
					return err
				}
				defer func() { _ = c.Close() }()
				status, _, err := get(c, "/v1/credentials/github")
				if err == nil && status != http.StatusOK {
					err = fmt.Errorf("status %d", status)
				}
				return err
			}()
		})
	}
	ready.Wait()
	close(start)
	done.Wait()
	close(errs)
	for err := range errs {
		require.NoError(t, err)
	}
}

func TestConnectionsOverTheLimitAreAnswered(t *testing.T) {
	run := startAPI(t, Options{Source: newFakeSource("github"), MaxConns: 8, MaxConnsPerUID: 2}, 0)
	kept := []net.Conn{run.dial(t), run.dial(t)}
	for _, c := range kept {
		get200(t, c, "/healthz")
	}
	for range 3 {
		status, body, err := get(run.dial(t), "/v1/credentials/github")
		require.NoError(t, err)
		require.Equal(t, http.StatusTooManyRequests, status)
		var e wire.Error
		require.NoError(t, json.Unmarshal([]byte(body), &e))
		require.Equal(t, wire.CodeRateLimited, e.Code)
		require.Equal(t, 1, e.RetryAfter)
		require.Contains(t, e.Message, selfPrincipal)
		require.NotEmpty(t, e.RequestID)
	}
	require.NoError(t, run.api.SelfCheck(t.Context()), "no limit is for the daemon's own check")
	require.Equal(t, 1, strings.Count(run.log.String(), "connections refused"), "the log is not filled")

	get200(t, kept[1], "/healthz")
	require.NoError(t, kept[0].Close())
	require.Eventually(t, func() bool {
		c, err := net.Dial("unix", run.path)
		require.NoError(t, err)
		defer func() { _ = c.Close() }()
		status, _, err := get(c, "/healthz")
		return err == nil && status == http.StatusOK
	}, 5*time.Second, 5*time.Millisecond, "a place that was given up is free again")
}

func TestRefusedConnectionsThatSayNothing(t *testing.T) {
	run := startAPI(t, Options{Source: newFakeSource("github"), MaxConns: 8, MaxConnsPerUID: 1}, 0)
	kept := run.dial(t)
	get200(t, kept, "/healthz")
	silent := make([]net.Conn, 0, politeRefusals+50)
	for range cap(silent) {
		silent = append(silent, run.dial(t))
	}
	get200(t, kept, "/healthz")
	answered := 0
	for _, c := range silent {
		answer, err := io.ReadAll(c)
		require.NoError(t, err)
		if strings.Contains(string(answer), string(wire.CodeRateLimited)) {
			answered++
			continue
		}
		require.Empty(t, answer)
	}
	require.GreaterOrEqual(t, answered, politeRefusals)
	require.Less(t, answered, len(silent), "a flood is not answered to its end")
}

// TestOneUserDoesNotLockOutAnother reads, on a kept connection and on a new one
// each time, while another user makes 10,000 connections.
func TestOneUserDoesNotLockOutAnother(t *testing.T) {
	needRoot(t)
	run := startAPI(t, Options{Source: newFakeSource("github"), MaxConns: 1000, MaxConnsPerUID: 300}, 0o666)
	kept := run.dial(t)
	get200(t, kept, "/v1/credentials/github")
	before := runtime.NumGoroutine()
	flood := startChild(t, asUser(12001), "flood", run.path)
	flooding, stop := context.WithCancel(t.Context())
	defer stop()
	var others sync.WaitGroup
	others.Go(func() {
		defer stop()
		_, _ = flood.stdout.ReadString('\n')
	})
	var onNew []float64
	var failed error
	others.Go(func() {
		for flooding.Err() == nil && failed == nil {
			begin := time.Now()
			failed = readOnce(run.path)
			onNew = append(onNew, time.Since(begin).Seconds())
		}
	})
	var onKept []float64
	for flooding.Err() == nil {
		begin := time.Now()
		get200(t, kept, "/v1/credentials/github")
		onKept = append(onKept, time.Since(begin).Seconds())
	}
	others.Wait()
	require.NoError(t, failed)
	t.Logf("reads of the other user: %d on one connection, p99 %.1f ms, and %d on new ones, p99 %.1f ms",
		len(onKept), 1e3*p99(onKept), len(onNew), 1e3*p99(onNew))
	require.Less(t, p99(onKept), maxFloodedP99(), "seconds")

	require.NoError(t, flood.stdin.Close())
	require.NoError(t, flood.cmd.Wait())
	require.Eventually(t, func() bool { return runtime.NumGoroutine() <= before+8 }, 10*time.Second, 10*time.Millisecond)
	require.Eventually(t, func() bool { return run.api.conns.limits.count() == 1 }, 10*time.Second, 10*time.Millisecond,
		"places are given back")
}

// readOnce reads with a client of its own, which comes back if the backlog is
// full.
func readOnce(path string) error {
	c := client.Client{Socket: path}
	defer c.CloseIdleConnections()
	_, _, err := c.Get(context.Background(), "github", client.GetOptions{})
	return err
}

func p99(values []float64) float64 {
	slices.Sort(values)
	return values[len(values)*99/100]
}

// maxFloodedP99 is how slow the slowest hundredth of the reads may be, in seconds:
// what is promised where GRANTEXD_BENCH says that the machine does nothing else.
func maxFloodedP99() float64 {
	if os.Getenv("GRANTEXD_BENCH") != "" {
		return 0.050
	}
	return 1
}

// closedWithin reads until the server closes c, and fails if it does not.
func closedWithin(t *testing.T, c net.Conn, limit time.Duration) string {
	t.Helper()
	require.NoError(t, c.SetReadDeadline(time.Now().Add(limit)))
	answer, err := io.ReadAll(c)
	if err != nil {
		require.ErrorIs(t, err, syscall.ECONNRESET)
	}
	return string(answer)
}

func TestSlowClientsAreCutOff(t *testing.T) {
	run := startAPI(t, Options{
		Source: newFakeSource("github"), ReadTimeout: 100 * time.Millisecond, IdleTimeout: 200 * time.Millisecond,
	}, 0)
	cases := map[string]string{
		"nothing":             "",
		"half a request line": "GET /v1/cred",
		"half a header":       "GET /healthz HTTP/1.1\r\nHost: gran",
		"no body for an exchange": "POST /v1/vault/credentials/exchange HTTP/1.1\r\nHost: grantexd\r\n" +
			"Content-Type: application/json\r\nContent-Length: 20\r\n\r\n{",
		"no body for a read":      "GET /v1/credentials/github HTTP/1.1\r\nHost: grantexd\r\nContent-Length: 20\r\n\r\n",
		"no body for a bad route": "PUT /nowhere HTTP/1.1\r\nHost: grantexd\r\nContent-Length: 20\r\n\r\n",
		"idle after an answer":    "GET /healthz HTTP/1.1\r\nHost: grantexd\r\n\r\n",
		"half a chunk": "POST /v1/vault/credentials/exchange HTTP/1.1\r\nHost: grantexd\r\n" +
			"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{",
	}
	for name, sent := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, err := net.Dial("unix", run.path)
			require.NoError(t, err)
			defer func() { _ = c.Close() }()
			_, err = io.WriteString(c, sent)
			require.NoError(t, err)
			answer := closedWithin(t, c, 10*time.Second)
			if strings.Contains(name, "body for an exchange") || strings.Contains(name, "chunk") {
				require.Contains(t, answer, string(wire.CodeBadRequest))
			}
		})
	}
}

func TestALongWaitOutlivesTheReadTimeout(t *testing.T) {
	source := newFakeSource("github")
	source.read = func(ctx context.Context, r Request) (Answer, error) {
		select {
		case <-time.After(400 * time.Millisecond):
			return hit(r.Service), nil
		case <-ctx.Done():
			return Answer{}, ctx.Err()
		}
	}
	run := startAPI(t, Options{Source: source, ReadTimeout: 100 * time.Millisecond, IdleTimeout: 100 * time.Millisecond}, 0)
	get200(t, run.dial(t), "/v1/credentials/github")
	status, _, err := exchange(run.dial(t), "POST /v1/vault/credentials/exchange HTTP/1.1\r\nHost: grantexd\r\n"+
		"Content-Type: application/json\r\nContent-Length: 20\r\n\r\n{\"service\":\"github\"}")
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, status)
}

func TestAClientThatNeverReadsIsCutOff(t *testing.T) {
	run := startAPI(t, Options{Source: newFakeSource("github"), WriteTimeout: 200 * time.Millisecond}, 0)
	c := run.dial(t)
	request := []byte("GET /v1/credentials/github HTTP/1.1\r\nHost: grantexd\r\n\r\n")
	var err error
	for err == nil { // until the server no longer reads either, and gives up
		_, err = c.Write(request)
	}
	require.ErrorIs(t, err, syscall.EPIPE)
}

func TestACallerThatHangsUpEndsItsWait(t *testing.T) {
	source := newFakeSource()
	ended := make(chan struct{})
	source.read = func(ctx context.Context, _ Request) (Answer, error) {
		<-ctx.Done()
		close(ended)
		return Answer{}, ctx.Err()
	}
	run := startAPI(t, Options{Source: source}, 0)
	c := run.dial(t)
	_, err := io.WriteString(c, "GET /v1/credentials/github HTTP/1.1\r\nHost: grantexd\r\n\r\n")
	require.NoError(t, err)
	require.Eventually(t, func() bool { return len(source.asked()) == 1 }, 5*time.Second, time.Millisecond)
	require.NoError(t, c.Close())
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Fatal("the source was not told")
	}
}

func TestWhatHTTPCanNotParseIsAnsweredInJSON(t *testing.T) {
	run := startAPI(t, Options{Source: newFakeSource("github"), MaxHeaderBytes: 4096}, 0)
	cases := []struct {
		name, raw string
		code      wire.Code
	}{
		{"control character", "GET /v1/credentials/a\x01b HTTP/1.1\r\nHost: grantexd\r\n\r\n", wire.CodeBadRequest},
		{"bad escape", "GET /v1/credentials/%zz HTTP/1.1\r\nHost: grantexd\r\n\r\n", wire.CodeBadRequest},
		{"no host", "GET /healthz HTTP/1.1\r\n\r\n", wire.CodeBadRequest},
		{"two hosts", "GET /healthz HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", wire.CodeBadRequest},
		{"bad host", "GET /healthz HTTP/1.1\r\nHost: a b\r\n\r\n", wire.CodeBadRequest},
		{"no HTTP at all", "hello\r\n\r\n", wire.CodeBadRequest},
		{"HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", wire.CodeForbiddenOrigin},
		{"HTTP/3.0", "GET / HTTP/3.0\r\nHost: grantexd\r\n\r\n", wire.CodeBadRequest},
		{"huge header", "GET /healthz HTTP/1.1\r\nHost: grantexd\r\nX: " + strings.Repeat("x", 10000) + "\r\n\r\n", wire.CodePayloadTooLarge},
		{"encoding", "POST /healthz HTTP/1.1\r\nHost: grantexd\r\nTransfer-Encoding: gzip\r\n\r\n", wire.CodeBadRequest},
		{"smuggling", "POST /healthz HTTP/1.1\r\nHost: grantexd\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", wire.CodeBadRequest},
		{"expectation", "GET /healthz HTTP/1.1\r\nHost: grantexd\r\nExpect: the-unexpected\r\n\r\n", wire.CodeBadRequest},
		{"options for all", "OPTIONS * HTTP/1.1\r\nHost: grantexd\r\n\r\n", wire.CodeNoSuchRoute},
		{"connect", "CONNECT grantexd HTTP/1.1\r\nHost: grantexd\r\n\r\n", wire.CodeNoSuchRoute},
		{"another host in the path", "GET http://evil/healthz HTTP/1.1\r\nHost: grantexd\r\n\r\n", wire.CodeForbiddenOrigin},
		{"no host in HTTP/1.0", "GET /healthz HTTP/1.0\r\n\r\n", wire.CodeForbiddenOrigin},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			status, body, err := exchange(run.dial(t), c.raw)
			require.NoError(t, err)
			require.Equal(t, c.code.Status(), status, body)
			var e wire.Error
			require.NoError(t, json.Unmarshal([]byte(body), &e), body)
			require.Equal(t, c.code, e.Code)
			require.NotEmpty(t, e.RequestID)
			require.NotEmpty(t, e.Message)
		})
	}
}

func TestTooLargeABodyIsNotRead(t *testing.T) {
	run := startAPI(t, Options{Source: newFakeSource("github")}, 0)
	status, body, err := exchange(run.dial(t), "POST /v1/vault/credentials/exchange HTTP/1.1\r\nHost: grantexd\r\n"+
		"Content-Type: application/json\r\nContent-Length: 1000000\r\n\r\n"+strings.Repeat("x", DefaultMaxBodyBytes+1))
	require.NoError(t, err)
	require.Equal(t, http.StatusRequestEntityTooLarge, status, body)
}

func TestPipelinedRequestsAreAllAnswered(t *testing.T) {
	run := startAPI(t, Options{Source: newFakeSource("github")}, 0)
	c := run.dial(t)
	const requests = 50
	_, err := io.WriteString(c, strings.Repeat("GET /v1/credentials/github HTTP/1.1\r\nHost: grantexd\r\n\r\n", requests))
	require.NoError(t, err)
	r := bufio.NewReader(c)
	for range requests {
		response, err := http.ReadResponse(r, nil)
		require.NoError(t, err)
		_, err = io.Copy(io.Discard, response.Body)
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, response.StatusCode)
	}
}

func TestSelfCheck(t *testing.T) {
	source := newFakeSource()
	a, _ := newAPI(t, Options{Source: source, MaxConns: 1, Access: rules(t, access.Rule{Users: []string{"1"}, Services: []string{"*"}})})
	require.ErrorContains(t, a.SelfCheck(t.Context()), "not served")
	l, err := Listen(ListenOptions{Path: filepath.Join(t.TempDir(), "s")})
	require.NoError(t, err)
	stop := serve(t, a, l)
	for range 3 {
		require.Eventually(t, func() bool { return a.SelfCheck(t.Context()) == nil }, 5*time.Second, time.Millisecond)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.Error(t, a.SelfCheck(ctx))
	stop()
	require.Error(t, a.SelfCheck(t.Context()), "after the end")
}

func TestStopAnswersWhatWasAsked(t *testing.T) {
	source := newFakeSource("github")
	proceed := make(chan struct{})
	source.read = func(ctx context.Context, r Request) (Answer, error) {
		if r.Service == "slow" {
			select {
			case <-proceed:
			case <-ctx.Done():
				return Answer{}, ctx.Err()
			}
		}
		return hit(r.Service), nil
	}
	run := startAPI(t, Options{Source: source}, 0)
	waiting, idle, fresh := run.dial(t), run.dial(t), run.dial(t)
	get200(t, idle, "/v1/credentials/github")
	result := make(chan *http.Response, 1)
	go func() {
		_, _ = io.WriteString(waiting, "GET /v1/credentials/slow HTTP/1.1\r\nHost: grantexd\r\n\r\n")
		response, _ := http.ReadResponse(bufio.NewReader(waiting), nil)
		result <- response
	}()
	require.Eventually(t, func() bool { return len(source.asked()) == 2 }, 5*time.Second, time.Millisecond)

	var stopped atomic.Bool
	done := make(chan struct{})
	go func() { run.stop(); stopped.Store(true); close(done) }()
	require.Eventually(t, func() bool { _, err := os.Stat(run.path); return os.IsNotExist(err) }, 5*time.Second, time.Millisecond)

	closedWithin(t, idle, 5*time.Second)
	status, body, err := get(fresh, "/v1/credentials/slow2")
	require.NoError(t, err, "a connection that was accepted before is answered")
	require.Equal(t, http.StatusOK, status, body)
	require.False(t, stopped.Load(), "it waits for the one that is under way")
	close(proceed)
	response := <-result
	require.NotNil(t, response)
	require.Equal(t, http.StatusOK, response.StatusCode)
	require.True(t, response.Close, "and is the last on its connection")
	<-done
}

func TestStopSendsAwayWhoWaitsLongerThanTheGracePeriod(t *testing.T) {
	source := newFakeSource()
	source.read = func(ctx context.Context, _ Request) (Answer, error) {
		<-ctx.Done()
		return Answer{}, ctx.Err()
	}
	run := startAPI(t, Options{Source: source, Grace: 100 * time.Millisecond}, 0)
	type result struct {
		status int
		body   string
	}
	results := make(chan result, 1)
	c := run.dial(t)
	go func() {
		status, body, _ := get(c, "/v1/credentials/github")
		results <- result{status, body}
	}()
	require.Eventually(t, func() bool { return len(source.asked()) == 1 }, 5*time.Second, time.Millisecond)
	run.stop()
	r := <-results
	require.Equal(t, http.StatusGatewayTimeout, r.status)
	require.Contains(t, r.body, messageStopping)
	require.NotContains(t, run.log.String(), "level=ERROR")
}

func TestStopIsNotHeldUpByASource(t *testing.T) {
	source := newFakeSource()
	stuck := make(chan struct{})
	source.read = func(context.Context, Request) (Answer, error) { <-stuck; return hit("github"), nil }
	run := startAPI(t, Options{Source: source, Grace: 50 * time.Millisecond}, 0)
	_, err := io.WriteString(run.dial(t), "GET /v1/credentials/github HTTP/1.1\r\nHost: grantexd\r\n\r\n")
	require.NoError(t, err)
	require.Eventually(t, func() bool { return len(source.asked()) == 1 }, 5*time.Second, time.Millisecond)
	run.stop()
	close(stuck)
}

// TestStopLosesNoRequest stops a server again and again while callers connect and
// ask. Whoever could connect and send is answered.
func TestStopLosesNoRequest(t *testing.T) {
	for range 10 {
		run := startAPI(t, Options{Source: newFakeSource("github")}, 0)
		var callers sync.WaitGroup
		var answered atomic.Int32
		lost := make(chan error, 16)
		for range 8 {
			callers.Go(func() {
				for {
					c, err := net.Dial("unix", run.path)
					if err != nil {
						return // the daemon is gone
					}
					status, _, err := get(c, "/v1/credentials/github")
					_ = c.Close()
					if err != nil || status != http.StatusOK {
						lost <- fmt.Errorf("connected, and then: %d, %w", status, err)
						return
					}
					answered.Add(1)
				}
			})
		}
		require.Eventually(t, func() bool { return answered.Load() > 50 }, 10*time.Second, time.Millisecond)
		run.stop()
		callers.Wait()
		close(lost)
		for err := range lost {
			require.NoError(t, err)
		}
	}
}

// TestStopLosesNoRequestOnKeptConnections is the same for callers that keep their
// connections: a request fails before a byte of it is taken, or is answered.
func TestStopLosesNoRequestOnKeptConnections(t *testing.T) {
	for range 10 {
		run := startAPI(t, Options{Source: newFakeSource("github")}, 0)
		var callers sync.WaitGroup
		var answered atomic.Int32
		lost := make(chan error, 16)
		for range 8 {
			c := run.dial(t)
			callers.Go(func() {
				r := bufio.NewReader(c)
				for {
					_, err := io.WriteString(c, "GET /v1/credentials/github HTTP/1.1\r\nHost: grantexd\r\n\r\n")
					if err != nil {
						if !errors.Is(err, syscall.EPIPE) {
							lost <- err
						}
						return
					}
					response, err := http.ReadResponse(r, nil)
					if err != nil {
						lost <- fmt.Errorf("sent, and then: %w", err)
						return
					}
					_, _ = io.Copy(io.Discard, response.Body)
					answered.Add(1)
					if response.Close {
						return
					}
				}
			})
		}
		require.Eventually(t, func() bool { return answered.Load() > 50 }, 10*time.Second, time.Millisecond)
		run.stop()
		callers.Wait()
		close(lost)
		for err := range lost {
			require.NoError(t, err)
		}
	}
}

// TestStopLeavesAForeignListenersBacklog stands for a socket that systemd keeps.
func TestStopLeavesAForeignListenersBacklog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	kept, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	require.NoError(t, err)
	defer func() { _ = kept.Close() }()
	serveOnce := func() (stop func()) {
		file, err := kept.File()
		require.NoError(t, err)
		defer func() { _ = file.Close() }()
		l, err := net.FileListener(file)
		require.NoError(t, err)
		a, _ := newAPI(t, Options{Source: newFakeSource("github")})
		return serve(t, a, l)
	}
	stop := serveOnce()
	first, err := net.Dial("unix", path)
	require.NoError(t, err)
	defer func() { _ = first.Close() }()
	get200(t, first, "/v1/credentials/github")
	stop()
	require.FileExists(t, path, "the path is not this server's to remove")
	between, err := net.Dial("unix", path)
	require.NoError(t, err)
	defer func() { _ = between.Close() }()
	defer serveOnce()()
	get200(t, between, "/v1/credentials/github")
}

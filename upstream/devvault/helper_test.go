package devvault

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/grantexd/grantexd/upstream/secret"
)

func TestMain(m *testing.M) {
	if storeUntilKilled() {
		return // this process is the child of a test
	}
	goleak.VerifyTestMain(m)
}

// sharedKey is made once: making it is the slowest thing here.
var sharedKey = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, rsaBits)
	if err != nil {
		panic(err)
	}
	return key
})

const testAPIKey = "gx_test_0123456789abcdef"

// newVault returns a vault with o, the shared signing key and a known API key.
func newVault(t *testing.T, o Options) *Server {
	t.Helper()
	if o.SigningKey == nil {
		o.SigningKey = sharedKey()
	}
	if o.APIKey.IsZero() {
		o.APIKey = secret.New(testAPIKey)
	}
	s, err := New(o)
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// mint returns a token of a new grant.
func mint(t *testing.T, s *Server, p MintParams) string {
	t.Helper()
	token, _, err := s.Mint(p)
	require.NoError(t, err)
	return token.Reveal()
}

// reply is an answer that was read to its end.
type reply struct {
	status int
	header http.Header
	body   string
}

// ask sends one request straight to h, from the address "192.0.2.1".
func ask(h http.Handler, method, path, bearer, body string) reply {
	return askFrom(h, "192.0.2.1:1234", method, path, bearer, body)
}

func askFrom(h http.Handler, remote, method, path, bearer, body string) reply {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.RemoteAddr = remote
	if bearer != "" {
		r.Header.Set("Authorization", "Bearer "+bearer)
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	return record(h, r)
}

func record(h http.Handler, r *http.Request) reply {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return reply{w.Code, w.Header(), w.Body.String()}
}

// askFor exchanges token for service.
func askFor(s *Server, token, service string) reply {
	return ask(s.Handler(), "POST", pathExchange, token, fmt.Sprintf(`{"service":%q}`, service))
}

// member returns the member of a JSON object, as text.
func (r reply) member(t *testing.T, name string) string {
	t.Helper()
	var all map[string]any
	require.NoError(t, json.Unmarshal([]byte(r.body), &all), r.body)
	if all[name] == nil {
		return ""
	}
	return fmt.Sprint(all[name])
}

// message returns the message of an error.
func (r reply) message(t *testing.T) string { t.Helper(); return r.member(t, "message") }

// world is a vault behind a real net/http server whose connections are pipes, so
// that both can live in a bubble.
type world struct {
	t     *testing.T
	vault *Server
	ln    *pipeListener
	start time.Time
}

// wallStart is what the vaults of worlds have on their clock at first.
var wallStart = time.Date(2026, 9, 7, 9, 29, 0, 0, time.UTC)

// newWorld serves a vault with o until the test ends. It is called in a bubble.
func newWorld(t *testing.T, o Options) *world {
	t.Helper()
	w := &world{t: t, ln: newPipeListener(), start: time.Now()}
	o.Clock = w.now
	w.vault = newVault(t, o)
	server := &http.Server{Handler: w.vault.Handler()}
	go func() { _ = server.Serve(w.ln) }()
	t.Cleanup(func() {
		_ = w.vault.Close()
		_ = server.Close()
	})
	return w
}

func (w *world) now() time.Time { return wallStart.Add(time.Since(w.start)) }

// sleepUntil sleeps until the vault's clock, if it was not put off, shows at.
func (w *world) sleepUntil(at time.Time) { time.Sleep(at.Sub(w.now())) }

// send sends a request as it stands and reads the answer up to the end of the
// connection.
func (w *world) send(request string) []byte {
	w.t.Helper()
	conn, err := w.ln.dial()
	require.NoError(w.t, err)
	defer func() { _ = conn.Close() }()
	go func() { _, _ = io.WriteString(conn, request) }() // the vault may not read all of it
	answer, err := io.ReadAll(conn)
	require.NoError(w.t, err)
	return answer
}

// client returns an HTTP client of the vault.
func (w *world) client() *http.Client {
	transport := &http.Transport{
		DialContext:       func(context.Context, string, string) (net.Conn, error) { return w.ln.dial() },
		DisableKeepAlives: true,
	}
	return &http.Client{Transport: transport}
}

// exchange asks for service like a client would; err is that of the call or of
// reading the body.
func (w *world) exchange(ctx context.Context, token, service string) (reply, error) {
	w.t.Helper()
	body := strings.NewReader(fmt.Sprintf(`{"service":%q}`, service))
	r, err := http.NewRequestWithContext(ctx, "POST", "http://vault"+pathExchange, body)
	require.NoError(w.t, err)
	r.Header.Set("Authorization", "Bearer "+token)
	r.Header.Set("Content-Type", "application/json")
	resp, err := w.client().Do(r)
	if err != nil {
		return reply{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	return reply{resp.StatusCode, resp.Header, string(text)}, err
}

// parse reads a raw answer.
func parse(t *testing.T, raw []byte) reply {
	t.Helper()
	resp, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(raw)), nil)
	require.NoError(t, err)
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return reply{resp.StatusCode, resp.Header, string(body)}
}

// pipeListener is a net.Listener whose connections are made by net.Pipe.
type pipeListener struct {
	conns     chan net.Conn
	closed    chan struct{}
	closeOnce sync.Once
}

func newPipeListener() *pipeListener {
	return &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
}

func (l *pipeListener) dial() (net.Conn, error) {
	here, there := net.Pipe()
	select {
	case l.conns <- there:
		return here, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	l.closeOnce.Do(func() { close(l.closed) })
	return nil
}

func (l *pipeListener) Addr() net.Addr { return pipeAddr{} }

type pipeAddr struct{}

func (pipeAddr) Network() string { return "pipe" }
func (pipeAddr) String() string  { return "pipe" }

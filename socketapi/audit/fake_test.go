package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/grantexd/grantexd/socketapi/peer"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// sink is a daemon's log.
type sink struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (s *sink) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.Write(p)
}

// size is how many bytes were written since the last take.
func (s *sink) size() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.Len()
}

// logger keeps only what is loud: lines must not depend on its level.
func (s *sink) logger() *slog.Logger {
	return slog.New(slog.NewJSONHandler(s, &slog.HandlerOptions{Level: slog.LevelWarn}))
}

// take returns the lines since the last call.
func (s *sink) take(t testing.TB) []map[string]any {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	lines := parse(t, s.buf.String())
	s.buf.Reset()
	return lines
}

// parse reads JSON lines; each must be whole.
func parse(t testing.TB, text string) []map[string]any {
	t.Helper()
	var out []map[string]any
	for line := range strings.Lines(text) {
		require.True(t, strings.HasSuffix(line, "\n"), "cut short: %q", line)
		var m map[string]any
		require.NoError(t, json.Unmarshal([]byte(line), &m), line)
		out = append(out, m)
	}
	return out
}

// readFile returns the lines of a file.
func readFile(t testing.TB, path string) []map[string]any {
	t.Helper()
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	return parse(t, string(b))
}

// newLog returns a log that writes to s.
func newLog(t testing.TB, s *sink) *Log {
	t.Helper()
	l, err := New(Options{Logger: s.logger()})
	require.NoError(t, err)
	return l
}

// newFile returns a log with a file of its own, what it says besides, and the
// file's path.
func newFile(t testing.TB, o Options) (*Log, *sink, string) {
	t.Helper()
	s := new(sink)
	o.Path, o.Logger = filepath.Join(t.TempDir(), "audit.log"), s.logger()
	l, err := New(o)
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() }) // some tests have made that fail
	return l, s, o.Path
}

// run runs l until the test ends it.
func run(l *Log) (stop func() error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	return func() error {
		cancel()
		return <-done
	}
}

// caller is a process on the socket, running as uid.
func caller(uid uint32) *peer.Identity { return peer.As(uid, 4_000_000_000) }

// github is a release that a test does not care for the details of.
var github = Release{Service: "github", Fingerprint: "f1", Exchange: "x1", Hit: true}

type failingHandler struct {
	slog.Handler
	err error
}

func (h failingHandler) Handle(context.Context, slog.Record) error { return h.err }

// failing returns a logger that nothing can be written to.
func failing(err error) *slog.Logger {
	return slog.New(failingHandler{slog.DiscardHandler, err})
}

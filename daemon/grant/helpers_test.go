package grant

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"flag"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fsnotify/fsnotify"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	// The tests of events wait more than they work. -parallel still overrides it.
	if err := flag.Set("test.parallel", "8"); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m)
}

// claimSet is the payload of a test's token.
type claimSet map[string]any

// standardClaims are those of a real grant token that lives from 10 minutes
// before now until life from then.
func standardClaims(now time.Time, life time.Duration) claimSet {
	issued := now.Add(-10 * time.Minute).Unix()
	return claimSet{
		"iss": "https://vault.test", "sub": "user_ada", "dev": "dev_orange", "agt": "did:test:agent-7",
		"scp": []string{"github:read", "slack:*"}, "grnt": "grnt_one", "jti": "tok_1",
		"iat": issued, "exp": issued + int64(life/time.Second),
	}
}

// with returns a copy in which the claim is set, or missing for a nil value.
func (c claimSet) with(name string, value any) claimSet {
	out := claimSet{}
	for k, v := range c {
		out[k] = v
	}
	out[name] = value
	if value == nil {
		delete(out, name)
	}
	return out
}

// token returns an RS256 token with these claims.
func (c claimSet) token() string { return c.signed("RS256", 256) }

// signed returns a token with an alg (nil for none at all) and a signature of
// some length.
func (c claimSet) signed(alg any, size int) string {
	header := map[string]any{"kid": "test-key"}
	if alg != nil {
		header["alg"] = alg
	}
	head, _ := json.Marshal(header)
	payload, _ := json.Marshal(c)
	return jwtOf(string(head), string(payload), size)
}

// jwtOf joins the parts of a JWT. The signature is verified by nobody, but it
// differs for different payloads.
func jwtOf(header, payload string, size int) string {
	var signature []byte
	for block := sha256.Sum256([]byte(payload)); len(signature) < size; block = sha256.Sum256(block[:]) {
		signature = append(signature, block[:]...)
	}
	e := base64.RawURLEncoding
	return e.EncodeToString([]byte(header)) + "." + e.EncodeToString([]byte(payload)) + "." +
		e.EncodeToString(signature[:size])
}

// numbered returns a day's token, different for each id.
func numbered(id string) string {
	return standardClaims(time.Now(), 24*time.Hour).with("jti", id).token()
}

// lockedBuffer is a log that can be read while it is written.
type lockedBuffer struct {
	mu sync.Mutex // guards b
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// count returns how many lines hold text.
func (l *lockedBuffer) count(text string) int {
	n := 0
	for line := range bytes.Lines([]byte(l.String())) {
		if bytes.Contains(line, []byte(text)) {
			n++
		}
	}
	return n
}

func (l *lockedBuffer) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// rig is a running watcher with all that it told.
type rig struct {
	*Watcher
	t       testing.TB
	path    string
	log     *lockedBuffer
	changes chan Snapshot
	inotify atomic.Pointer[fsnotify.Watcher] // Run's
	opened  atomic.Int32                     // how often the file was read
	before  atomic.Pointer[func() error]     // called before the file is opened; see onOpen
	loaded  int32                            // how often before Run
	stop    func()
}

// newRig makes a watcher of a file that isn't there yet, in a directory that
// others can't enter. It isn't started.
func newRig(t testing.TB, opts Options) *rig {
	t.Helper()
	r := &rig{t: t, log: &lockedBuffer{}, changes: make(chan Snapshot, 100), stop: func() {}}
	if opts.Path == "" {
		opts.Path = filepath.Join(privateDir(t), "grant")
	}
	if opts.OnChange == nil {
		opts.OnChange = func(s Snapshot) { r.changes <- s }
	}
	r.path, opts.Logger = opts.Path, r.log.logger()
	w, err := New(opts)
	require.NoError(t, err)
	r.Watcher = w
	open := w.file.open
	w.file.open = func(path string) (*os.File, error) {
		r.opened.Add(1)
		if before := r.before.Load(); before != nil {
			if err := (*before)(); err != nil {
				return nil, &fs.PathError{Op: "open", Path: path, Err: err}
			}
		}
		return open(path)
	}
	w.notify = func() (*fsnotify.Watcher, error) {
		n, err := fsnotify.NewWatcher()
		r.inotify.Store(n)
		return n, err
	}
	return r
}

// watched waits until Run watches the file's directories and has done its first
// reading, so that a test of events isn't won by that. It returns Run's watcher.
func (r *rig) watched() *fsnotify.Watcher {
	r.t.Helper()
	require.Eventually(r.t, func() bool { return r.opened.Load() > r.loaded }, patience, time.Millisecond)
	r.turn <- struct{}{}
	<-r.turn
	return r.inotify.Load()
}

// privateDir returns a directory that others can't enter.
func privateDir(t testing.TB) string {
	dir := t.TempDir()
	require.NoError(t, os.Chmod(dir, 0o700))
	return dir
}

// start loads the file and runs the watcher until the test ends.
func (r *rig) start() *rig {
	r.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	require.NoError(r.t, r.Load(ctx))
	r.loaded = r.opened.Load()
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	r.stop = sync.OnceFunc(func() {
		cancel()
		require.NoError(r.t, <-ended, "a cancelled Run has not failed")
	})
	r.t.Cleanup(r.stop)
	return r
}

// onOpen has f called before the file is opened from now on; its error stands for
// one of open. nil ends it.
func (r *rig) onOpen(f func() error) {
	if f == nil {
		r.before.Store(nil)
		return
	}
	r.before.Store(&f)
}

// write puts content into the file, as an editor does: atomically.
func (r *rig) write(content string) *rig {
	r.t.Helper()
	replaceFile(r.t, r.path, content)
	return r
}

// replaceFile writes a file beside path and renames it over path.
func replaceFile(t testing.TB, path, content string) {
	t.Helper()
	fresh := path + ".new"
	put(t, fresh, content)
	require.NoError(t, os.Rename(fresh, path))
}

// next returns the next change, which must come within limit.
func (r *rig) next(limit time.Duration) Snapshot {
	r.t.Helper()
	select {
	case s := <-r.changes:
		return s
	case <-time.After(limit):
		require.FailNow(r.t, "no change was seen in time", "current: %v\nlog:\n%s", r.Current().Problem, r.log)
		return Snapshot{}
	}
}

// patience is how long a test waits for what comes at once on a machine that has
// nothing else to do. The polls that could make up for a lost event come later.
const patience = 10 * time.Second

// wants requires that the next change brings the token.
func (r *rig) wants(token string) {
	r.t.Helper()
	r.wantsWithin(patience, token)
}

func (r *rig) wantsWithin(limit time.Duration, token string) {
	r.t.Helper()
	s := r.next(limit)
	require.Equal(r.t, Usable, s.State, s.Problem)
	require.Equal(r.t, token, s.Grant.Token.Reveal())
}

// problem waits until the current problem holds text.
func (r *rig) problem(text string) {
	r.t.Helper()
	require.Eventually(r.t, func() bool {
		return bytes.Contains([]byte(r.Current().Problem), []byte(text))
	}, patience, 5*time.Millisecond, "want problem %q, log:\n%s", text, r.log)
}

// quiet requires that no change was told so far.
func (r *rig) quiet() {
	r.t.Helper()
	select {
	case s := <-r.changes:
		require.FailNow(r.t, "unexpected change", "to %s: %s", s.State, s.Problem)
	default:
	}
}

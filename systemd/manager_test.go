package systemd

import (
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// testPatience bounds each wait for something that must happen.
const testPatience = 10 * time.Second

// manager is a service manager as far as notifications go: it keeps the store of
// descriptors, answers barriers, and tells the test what it was sent.
type manager struct {
	conn     *net.UnixConn
	messages chan string

	mu    sync.Mutex // guards the rest
	deaf  bool       // keeps barriers open
	held  []*os.File // barriers not answered
	store map[string][]*os.File
}

// startManager listens at name, or at a path of its own for "", and lets this
// test's notifications go there.
func startManager(t *testing.T, name string) *manager {
	t.Helper()
	if name == "" {
		dir, err := os.MkdirTemp("", "notify")
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
		name = filepath.Join(dir, "s")
	}
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	require.NoError(t, err)
	m := &manager{conn: conn, messages: make(chan string, 100), store: map[string][]*os.File{}}
	done := make(chan struct{})
	go func() { defer close(done); m.serve() }()
	t.Cleanup(func() {
		_ = conn.Close()
		<-done
		for _, f := range m.held {
			_ = f.Close()
		}
		for _, files := range m.store {
			for _, f := range files {
				_ = f.Close()
			}
		}
	})
	t.Setenv("NOTIFY_SOCKET", name)
	return m
}

func (m *manager) serve() {
	text, oob := make([]byte, 4096), make([]byte, 4096)
	for {
		n, oobn, _, _, err := m.conn.ReadMsgUnix(text, oob)
		if err != nil {
			return
		}
		m.handle(string(text[:n]), descriptors(oob[:oobn]))
	}
}

func (m *manager) handle(message string, files []*os.File) {
	m.mu.Lock()
	defer m.mu.Unlock()
	tags := map[string]string{}
	for line := range strings.Lines(message) {
		key, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		tags[key] = value
	}
	name := tags["FDNAME"]
	switch {
	case tags["BARRIER"] == "1" && m.deaf:
		m.held = append(m.held, files...)
	case tags["BARRIER"] == "1":
		for _, f := range files {
			_ = f.Close()
		}
	case tags["FDSTORE"] == "1":
		m.store[name] = append(m.store[name], files...)
	case tags["FDSTOREREMOVE"] == "1":
		for _, f := range m.store[name] {
			_ = f.Close()
		}
		delete(m.store, name)
	}
	m.messages <- message
}

func descriptors(oob []byte) []*os.File {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil
	}
	var files []*os.File
	for i := range messages {
		fds, err := unix.ParseUnixRights(&messages[i])
		if err != nil {
			continue
		}
		for _, fd := range fds {
			files = append(files, os.NewFile(uintptr(fd), "received"))
		}
	}
	return files
}

// turnDeaf makes it leave barriers unanswered.
func (m *manager) turnDeaf() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.deaf = true
}

// next returns the next message.
func (m *manager) next(t *testing.T) string {
	t.Helper()
	select {
	case message := <-m.messages:
		return message
	case <-time.After(testPatience):
		require.FailNow(t, "the manager was sent nothing")
		return ""
	}
}

// settle waits until everything sent so far has been handled, and forgets it.
func (m *manager) settle(t *testing.T) {
	t.Helper()
	require.NoError(t, barrier(context.Background()))
	for m.next(t) != "BARRIER=1" {
	}
}

// stored returns the contents in the store under name.
func (m *manager) stored(t *testing.T, name string) []string {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	var contents []string
	for _, f := range m.store[name] {
		content, err := io.ReadAll(io.NewSectionReader(f, 0, MaxSealed))
		require.NoError(t, err)
		contents = append(contents, string(content))
	}
	return contents
}

// pass returns the stored descriptors as a new process of the service gets them.
func (m *manager) pass(t *testing.T) *Inherited {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	in := &Inherited{Stored: map[string][]*os.File{}}
	for name, files := range m.store {
		for _, f := range files {
			fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 3)
			require.NoError(t, err)
			in.Stored[name] = append(in.Stored[name], os.NewFile(uintptr(fd), name))
		}
	}
	t.Cleanup(func() { _ = in.Close() })
	return in
}

package socketapi

import (
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// TestWriteDeadline has a client that reads nothing some time after an answer
// that it did read.
func TestWriteDeadline(t *testing.T) {
	const timeout = 20 * time.Second
	cases := []struct {
		name          string
		pause         time.Duration // between the two answers
		want          time.Duration // until the second one is given up
		clearedByHTTP bool
	}{
		{"at once", 0, timeout, false},
		{"just before half of it has passed", timeout/2 - time.Second, timeout/2 + time.Second, false},
		{"just after", timeout/2 + time.Second, timeout, false},
		{"after the old deadline", 2 * timeout, timeout, false},
		{"whatever net/http sets", 0, timeout, true},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client, server := net.Pipe()
				defer func() { _ = client.Close() }()
				w := newConn(server, timeout, func(*session) {})
				defer func() { _ = w.Close() }()
				go func() { _, _ = io.ReadFull(client, make([]byte, 2)) }()
				_, err := io.WriteString(w, "ok")
				require.NoError(t, err)
				if c.clearedByHTTP {
					require.NoError(t, w.SetWriteDeadline(time.Time{}))
				}
				time.Sleep(c.pause)
				begin := time.Now()
				_, err = io.WriteString(w, "unread")
				require.ErrorIs(t, err, os.ErrDeadlineExceeded)
				require.Equal(t, c.want, time.Since(begin))
			})
		})
	}
}

func TestCloseGivesThePlaceBackOnce(t *testing.T) {
	cs := newConnections(newConnLimits(8, 8))
	require.Equal(t, admitted, cs.limits.admit(1))
	require.Equal(t, admitted, cs.limits.admit(1))
	client, server := net.Pipe()
	defer func() { _ = client.Close() }()
	c := newConn(server, time.Second, func(*session) {})
	cs.add(c, 1)
	require.NoError(t, c.Close())
	require.NoError(t, c.Close())
	require.Equal(t, 1, cs.limits.total)
	require.Empty(t, cs.open)
}

func TestHangUpIdle(t *testing.T) {
	const patience = time.Second
	cases := []struct {
		name                string
		answering, answered bool
		age                 time.Duration
		want                bool
	}{
		{"being answered", true, false, time.Hour, false},
		{"being answered again", true, true, time.Hour, false},
		{"between requests", false, true, 0, true},
		{"just accepted", false, false, patience - time.Millisecond, false},
		{"accepted and silent", false, false, patience, true},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cs := newConnections(newConnLimits(8, 8))
				require.Equal(t, admitted, cs.limits.admit(1))
				client, server := net.Pipe()
				defer func() { _ = client.Close() }()
				open := newConn(server, time.Second, func(*session) {})
				open.session.answering.Store(c.answering)
				open.session.answered.Store(c.answered)
				cs.add(open, 1)
				time.Sleep(c.age)
				require.Equal(t, 1, cs.hangUpIdle(patience))
				require.Equal(t, c.want, open.hungUp.Load())
				_ = open.Close()
				require.Zero(t, cs.hangUpIdle(patience))
			})
		})
	}
}

func TestProtocolErrorLeavesOtherAnswersAlone(t *testing.T) {
	const plain = "\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n"
	for name, answer := range map[string]string{
		"nothing":             "",
		"short":               "HTTP/1.1 ",
		"success":             "HTTP/1.1 200 OK" + plain + canary,
		"100":                 "HTTP/1.1 100 Continue\r\n\r\n",
		"a handler's":         "HTTP/1.1 404 Not Found\r\nCache-Control: no-store\r\nContent-Length: 2\r\n\r\n{}",
		"long":                "HTTP/1.1 400 Bad Request" + plain + strings.Repeat("x", maxProtocolError),
		"part of a body":      "xHTTP/1.1 400 Bad Request" + plain,
		"an old HTTP version": "HTTP/1.0 400 Bad Request" + plain,
	} {
		require.Nil(t, protocolError([]byte(answer)), name)
	}
	got := string(protocolError([]byte("HTTP/1.1 400 Bad Request: malformed Host header" + plain + "400 Bad Request: malformed Host header")))
	require.Contains(t, got, "malformed HTTP request: malformed Host header")
	require.Contains(t, got, "\r\nConnection: close\r\n")
}

func TestTheCallerIsIdentifiedOnceAndBeforeTheFirstByte(t *testing.T) {
	client, server := net.Pipe()
	defer func() { _ = client.Close() }()
	times := 0
	c := newConn(server, time.Second, func(*session) { times++ })
	go func() { _, _ = io.WriteString(client, "ab") }()
	require.Zero(t, times)
	for range 2 {
		_, err := io.ReadFull(c, make([]byte, 1))
		require.NoError(t, err)
		require.Equal(t, 1, times)
	}
	require.NoError(t, c.Close())
	_, err := c.Read(make([]byte, 1))
	require.Error(t, err)
	require.Equal(t, 1, times)
}

func TestAConnectionThatIsClosedIsNotIdentified(t *testing.T) {
	client, server := net.Pipe()
	defer func() { _ = client.Close() }()
	c := newConn(server, time.Second, func(*session) { t.Error("too late") })
	require.NoError(t, c.Close())
	_, err := c.Read(make([]byte, 1))
	require.Error(t, err)
}

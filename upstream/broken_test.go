package upstream_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/grantexd/grantexd/upstream"
)

// listen serves raw connections until the test ends.
func listen(t *testing.T, handle func(net.Conn)) (address string, accepted *atomic.Int32) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	accepted = new(atomic.Int32)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			accepted.Add(1)
			handle(conn)
			_ = conn.Close()
		}
	}()
	t.Cleanup(func() { _ = ln.Close(); <-done })
	return "http://" + ln.Addr().String(), accepted
}

// readRequest reads one request off a connection.
func readRequest(conn net.Conn) {
	r, err := http.ReadRequest(bufio.NewReader(conn))
	if err == nil {
		_, _ = io.Copy(io.Discard, r.Body)
	}
}

func TestBrokenConnections(t *testing.T) {
	full := fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", len(goodBody)) + goodBody
	for _, tt := range []struct {
		name   string
		handle func(net.Conn)
	}{
		{"closed before the request", func(net.Conn) {}},
		{"closed before the answer", readRequest},
		{"reset before the answer", func(c net.Conn) {
			readRequest(c)
			_ = c.(*net.TCPConn).SetLinger(0)
		}},
		{"closed in the header", func(c net.Conn) { readRequest(c); _, _ = io.WriteString(c, full[:20]) }},
		{"closed in the body", func(c net.Conn) { readRequest(c); _, _ = io.WriteString(c, full[:len(full)-10]) }},
		{"reset in the body", func(c net.Conn) {
			readRequest(c)
			_, _ = io.WriteString(c, full[:len(full)-10])
			_ = c.(*net.TCPConn).SetLinger(0)
		}},
		{"closed in a chunk", func(c net.Conn) {
			readRequest(c)
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n"+goodBody)
		}},
		{"not HTTP", func(c net.Conn) { readRequest(c); _, _ = io.WriteString(c, "canary_access_token\r\n\r\n") }},
		{"canary for a status", func(c net.Conn) {
			readRequest(c)
			_, _ = io.WriteString(c, "HTTP/1.1 canary_access_token OK\r\n\r\n")
		}},
		{"canary for a header", func(c net.Conn) {
			readRequest(c)
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\ncanary_access_token\r\n\r\n")
		}},
		{"canary for a length", func(c net.Conn) {
			readRequest(c)
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: canary_access_token\r\n\r\n")
		}},
		{"endless header", func(c net.Conn) {
			readRequest(c)
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nX: "+strings.Repeat("canary", 20_000)+"\r\n\r\n")
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			address, accepted := listen(t, tt.handle)
			_, err := newClient(t, address).Exchange(t.Context(), grant, "github")
			require.ErrorIs(t, err, upstream.ErrConnect)
			require.NotErrorIs(t, err, upstream.ErrTimeout)
			require.NotContains(t, err.Error(), "canary")
			require.EqualValues(t, 2, accepted.Load(), "attempts")
		})
	}
}

func TestNobodyListens(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, ln.Close())
	_, err = newClient(t, "http://"+ln.Addr().String()).Exchange(t.Context(), grant, "github")
	require.ErrorIs(t, err, upstream.ErrConnect)
	require.Contains(t, err.Error(), "connection refused")
}

// A kept connection that the vault closes just as a request is on its way: the
// request may have arrived, so that net/http must not repeat it behind the back
// of whoever counts departures.
func TestNoRetryBehindTheWrapper(t *testing.T) {
	var arrived, departed atomic.Int32
	address, _ := listen(t, func(c net.Conn) {
		in := bufio.NewReader(c)
		for i := range 2 {
			r, err := http.ReadRequest(in)
			if err != nil {
				return
			}
			_, _ = io.Copy(io.Discard, r.Body)
			arrived.Add(1)
			if i == 0 {
				_, _ = fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(goodBody), goodBody)
			}
		}
	})
	c := newClient(t, address, func(o *upstream.Options) {
		o.Wrap = func(next http.RoundTripper) http.RoundTripper {
			return roundTripFunc(func(r *http.Request) (*http.Response, error) {
				departed.Add(1)
				return next.RoundTrip(r)
			})
		}
	})
	for range 4 {
		_, err := c.Exchange(t.Context(), grant, "github")
		require.NoError(t, err)
	}
	require.Greater(t, arrived.Load(), int32(4), "the connection was broken at least once")
	require.Equal(t, arrived.Load(), departed.Load())
}

func TestAttemptTimeoutForReal(t *testing.T) {
	for name, head := range map[string]string{
		"before the answer": "",
		"in the body":       "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{",
	} {
		t.Run(name, func(t *testing.T) {
			address, accepted := listen(t, func(c net.Conn) {
				readRequest(c)
				_, _ = io.WriteString(c, head)
				_, _ = c.Read(make([]byte, 1)) // until the client hangs up
			})
			c := newClient(t, address, func(o *upstream.Options) { o.AttemptTimeout = 50 * time.Millisecond })
			_, err := c.Exchange(t.Context(), grant, "github")
			require.ErrorIs(t, err, upstream.ErrTimeout)
			require.NotErrorIs(t, err, upstream.ErrConnect)
			require.EqualValues(t, 1, accepted.Load())
		})
	}
}

func TestRedirectsAreRefused(t *testing.T) {
	var elsewhere atomic.Int32
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere.Add(1) }))
	t.Cleanup(other.Close)
	for _, status := range []int{300, 301, 302, 303, 304, 307, 308} {
		for name, location := range map[string]string{
			"elsewhere": other.URL + "/canary", "same host": "/canary", "bad": "http://[canary", "none": "",
		} {
			t.Run(fmt.Sprint(status, " ", name), func(t *testing.T) {
				answer := fmt.Sprintf("HTTP/1.1 %d X\r\nContent-Length: 0\r\n", status)
				if location != "" {
					answer += "Location: " + location + "\r\n"
				}
				v := serve(t, []byte(answer+"\r\n"))
				_, err := newClient(t, v.URL).Exchange(t.Context(), grant, "github")
				var got *upstream.Error
				require.ErrorAs(t, err, &got)
				require.Equal(t, upstream.Error{Status: status, URL: v.URL + upstream.PathExchange}, *got)
				v.only(t)
			})
		}
	}
	require.Zero(t, elsewhere.Load(), "the token went elsewhere")
}

func TestLongBodies(t *testing.T) {
	const limit = 1 << 20
	pad := func(s string, n int) string { return s + strings.Repeat(" ", n-len(s)) }
	vaultError := `{"message":"no","code":"NOT_FOUND","requestId":"r"}`
	for _, tt := range []struct {
		name   string
		status int
		body   string
		check  func(*testing.T, error)
	}{
		{"credential of 1 MiB", 200, pad(goodBody, limit), func(t *testing.T, err error) { require.NoError(t, err) }},
		{"credential of a byte more", 200, pad(goodBody, limit+1), func(t *testing.T, err error) {
			var malformed *upstream.MalformedError
			require.ErrorAs(t, err, &malformed)
			require.Equal(t, "it is longer than 1 MiB", malformed.Reason)
		}},
		{"error of 1 MiB", 404, pad(vaultError, limit), func(t *testing.T, err error) {
			var got *upstream.Error
			require.ErrorAs(t, err, &got)
			require.Equal(t, "NOT_FOUND", got.Code)
		}},
		{"error of a byte more", 404, pad(vaultError, limit+1), func(t *testing.T, err error) {
			var got *upstream.Error
			require.ErrorAs(t, err, &got)
			require.Equal(t, 404, got.Status)
			require.Empty(t, got.Code+got.Message+got.RequestID)
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.WriteHeader(tt.status)
				_, _ = io.WriteString(w, tt.body)
			}))
			t.Cleanup(srv.Close)
			_, err := newClient(t, srv.URL).Exchange(t.Context(), grant, "github")
			tt.check(t, err)
		})
	}
}

// An endless body is left where it is.
func TestEndlessBody(t *testing.T) {
	sent := make(chan int, 1)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, chunk := 0, []byte(strings.Repeat("canary", 10_000))
		for {
			if _, err := w.Write(chunk); err != nil {
				sent <- n
				return
			}
			n += len(chunk)
		}
	}))
	t.Cleanup(srv.Close)
	_, err := newClient(t, srv.URL).Exchange(t.Context(), grant, "github")
	var malformed *upstream.MalformedError
	require.ErrorAs(t, err, &malformed)
	require.Less(t, <-sent, 64<<20, "what the sockets' buffers hold, not more")
}

package upstream

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
)

// maxBody is the longest body that is read, in bytes. The vault takes no longer
// one itself; an exchange's answer has a few hundred.
const maxBody = 1 << 20

// answer is an answer of the vault that has arrived in full, or as far as it is
// read at all.
type answer struct {
	status  int
	header  http.Header
	body    []byte // nil if it was too long
	tooLong bool
	url     string // without query
}

// newAnswer takes the answer out of a response of bufferTransport.
func newAnswer(resp *http.Response, url string) *answer {
	a := &answer{status: resp.StatusCode, header: resp.Header, url: url}
	if b, ok := resp.Body.(*bufferedBody); ok {
		a.body, a.tooLong = b.content, b.tooLong
	}
	return a
}

// bufferTransport reads each answer's body before it hands the answer on, so
// that a body that breaks half way is a failed attempt like any other, for
// which the retrying client above may make another one. It is the layer right
// below that client.
type bufferTransport struct {
	next http.RoundTripper
	base http.RoundTripper // the lowest layer, which holds the connections
}

// RoundTrip implements [http.RoundTripper].
func (t *bufferTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := t.next.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	content, err := io.ReadAll(io.LimitReader(resp.Body, maxBody+1))
	if closeErr := resp.Body.Close(); err == nil && closeErr != nil {
		err = fmt.Errorf("closing the answer's body: %w", closeErr)
	}
	if err != nil {
		return nil, err
	}
	body := &bufferedBody{Reader: bytes.NewReader(nil)}
	if len(content) > maxBody {
		body.tooLong = true
	} else {
		body.content = content
	}
	resp.Body = body
	// Nobody is to follow a redirect, not even to look where it points: it
	// would carry the token there.
	resp.Header.Del("Location")
	return resp, nil
}

// CloseIdleConnections closes those of the lowest layer, whatever lies between.
// The retrying client asks for it after each failure, so that the next call does
// not meet the same dead connection.
func (t *bufferTransport) CloseIdleConnections() {
	if c, ok := t.base.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

// bufferedBody is a body that was read already. The retrying client drains the
// (empty) reader; content stays.
type bufferedBody struct {
	*bytes.Reader
	content []byte
	tooLong bool
}

// Close implements [io.Closer].
func (*bufferedBody) Close() error { return nil }

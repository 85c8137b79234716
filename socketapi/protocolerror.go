package socketapi

import (
	"bytes"
	"fmt"
	"strconv"

	"github.com/grantexd/grantexd/socketapi/wire"
)

// net/http answers what it can't parse by itself, in plain text. These are the
// marks of such an answer: no handler's looks like it, since a handler's headers
// come in alphabetical order and include a length.
var (
	protocolErrorPrefix = []byte("HTTP/1.1 ")
	protocolErrorHeader = []byte("\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n")
	expectationFailed   = []byte("HTTP/1.1 417 ")
)

// maxProtocolError is longer than any of these answers, and shorter than most
// others, which are not searched.
const maxProtocolError = 256

// protocolError returns what to send in place of an answer of net/http's own, so
// that a caller finds the same JSON in every error; nil for all other answers.
func protocolError(p []byte) []byte {
	// '4' and '5' come after "HTTP/1.1 ".
	if len(p) > maxProtocolError || len(p) <= len(protocolErrorPrefix) || p[len(protocolErrorPrefix)] < '4' {
		return nil
	}
	if bytes.HasPrefix(p, expectationFailed) {
		return closingAnswer(badRequest("the only expectation that is met is 100-continue"))
	}
	statusLine, _, found := bytes.Cut(p, protocolErrorHeader)
	if !found || !bytes.HasPrefix(p, protocolErrorPrefix) {
		return nil
	}
	status, reason, _ := bytes.Cut(statusLine[len(protocolErrorPrefix):], []byte(" "))
	switch code, _ := strconv.Atoi(string(status)); code {
	case 431:
		return closingAnswer(&wire.Error{Code: wire.CodePayloadTooLarge, Message: "request header is too large"})
	case 501:
		return closingAnswer(badRequest("transfer encoding is not supported"))
	}
	message := "malformed HTTP request"
	if _, detail, found := bytes.Cut(reason, []byte(": ")); found {
		message += ": " + string(detail) // one of net/http's constants
	}
	return closingAnswer(badRequest(message))
}

// closingAnswer renders a whole answer after which the connection is closed.
func closingAnswer(e *wire.Error) []byte {
	answer := *e
	answer.RequestID = newRequestID()
	body, _ := encode(answer) // strings and numbers can't fail
	var b bytes.Buffer
	fmt.Fprintf(&b, "HTTP/1.1 %d %s\r\n", answer.Code.Status(), answer.Code)
	b.WriteString("Cache-Control: no-store\r\nConnection: close\r\n")
	fmt.Fprintf(&b, "Content-Length: %d\r\nContent-Type: %s\r\n", len(body), headerJSON[0])
	if answer.RetryAfter > 0 {
		fmt.Fprintf(&b, "Retry-After: %d\r\n", answer.RetryAfter)
	}
	b.WriteString("X-Content-Type-Options: nosniff\r\n\r\n")
	b.Write(body)
	return b.Bytes()
}

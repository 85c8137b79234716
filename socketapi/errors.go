package socketapi

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"strconv"

	"github.com/grantexd/grantexd/socketapi/wire"
)

// errNoCredential is a bug of the source: success without a credential.
var errNoCredential = errors.New("source answered without a credential")

// The messages that the API itself answers with. Where the vault checks the
// same, they are the vault's own, so that a program that knows the vault
// understands them.
const (
	messageServiceMissing = "service is required"
	messageServiceName    = "service must be 1-64 characters and contain only letters, numbers, dot, underscore, or dash"
	messageServiceString  = "service must be a string"
	messageBodyEmpty      = "body cannot be empty: send a JSON object as application/json"
	messageBodyMalformed  = "body is not a valid JSON object"
	messageInternal       = "grantexd failed to answer; its log has the reason under this requestId"
	messageStopping       = "grantexd is stopping before the vault has answered; ask again"
)

func badRequest(message string) *wire.Error {
	return &wire.Error{Code: wire.CodeBadRequest, Message: message}
}

// fail answers with err: as it is if it is made for the wire, else as INTERNAL
// with the detail in the log alone.
func (a *API) fail(w http.ResponseWriter, r *http.Request, err error) {
	answer := wire.Error{Code: wire.CodeInternal, Message: messageInternal}
	var known *wire.Error
	switch {
	case errors.As(err, &known) && known.Code.Status() != http.StatusInternalServerError:
		answer = *known
	case r.Context().Err() != nil && errors.Is(err, r.Context().Err()):
		// The caller is gone, or the daemon is stopping; neither is a bug.
		err = nil
		if a.draining.Load() {
			answer = wire.Error{Code: wire.CodeUpstreamTimeout, Message: messageStopping, RetryAfter: 1}
		}
	}
	answer.RequestID = newRequestID()
	level := slog.LevelDebug
	attrs := []slog.Attr{
		slog.String("code", string(answer.Code)), slog.String("request_id", answer.RequestID),
	}
	if answer.Code == wire.CodeInternal && err != nil {
		level = slog.LevelError
		attrs = append(attrs, slog.Any("error", err))
	}
	a.log.LogAttrs(context.WithoutCancel(r.Context()), level, "request failed", attrs...)
	a.writeError(w, &answer)
}

// writeError writes e, whose RequestID is set.
func (a *API) writeError(w http.ResponseWriter, e *wire.Error) {
	h := w.Header()
	if e.RetryAfter > 0 {
		h["Retry-After"] = []string{strconv.Itoa(e.RetryAfter)}
	}
	body, _ := encode(e) // strings and numbers can't fail
	a.writeBody(w, e.Code.Status(), headerJSON, body)
}

// writeJSON answers a query with v.
func (a *API) writeJSON(w http.ResponseWriter, r *http.Request, v any) {
	body, err := encode(v)
	if err != nil {
		a.fail(w, r, err)
		return
	}
	a.writeBody(w, http.StatusOK, headerJSON, body)
}

// writeBody writes an answer that is not a credential.
func (a *API) writeBody(w http.ResponseWriter, status int, contentType []string, body []byte) {
	h := w.Header()
	h["Content-Type"] = contentType
	h["Content-Length"] = []string{strconv.Itoa(len(body))}
	h["Cache-Control"] = headerNoStore
	h["X-Content-Type-Options"] = headerNoSniff
	if a.draining.Load() {
		h["Connection"] = headerClose
	}
	w.WriteHeader(status)
	_, _ = w.Write(body) // a caller that is gone needs no answer
}

// encode renders v without the escapes that only matter inside HTML.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return b.Bytes(), err
}

// newRequestID returns a random UUID (RFC 9562, version 4), the form that the
// vault's ids have.
func newRequestID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails, see crypto/rand
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	var s [36]byte
	hex.Encode(s[0:8], b[0:4])
	hex.Encode(s[9:13], b[4:6])
	hex.Encode(s[14:18], b[6:8])
	hex.Encode(s[19:23], b[8:10])
	hex.Encode(s[24:36], b[10:16])
	s[8], s[13], s[18], s[23] = '-', '-', '-', '-'
	return string(s[:])
}

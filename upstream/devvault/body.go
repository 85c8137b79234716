package devvault

import (
	"bytes"
	"encoding/json"
	"io"
	"mime"
	"net/http"
	"regexp"
	"strconv"
	"time"
)

const (
	// maxBodyBytes is the largest body the vault reads.
	maxBodyBytes = 1 << 20
	// maxHeaderBytes is the largest header block the vault reads.
	maxHeaderBytes = 16 << 10
)

// serviceName is what the vault accepts as a service's name, in either case.
var serviceName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// rawBody is a body as it came, before it was judged.
type rawBody struct {
	bytes       []byte
	tooLarge    bool
	contentType string
	typed       bool // there was a Content-Type header
}

// readBody reads the body, at most one byte more than the vault accepts. The
// error is the client's: it went away.
func readBody(r *http.Request) (rawBody, error) {
	b := rawBody{}
	if values, ok := r.Header["Content-Type"]; ok && len(values) > 0 {
		b.contentType, b.typed = values[0], true
	}
	if r.ContentLength > maxBodyBytes {
		b.tooLarge = true
		return b, nil
	}
	var err error
	b.bytes, err = io.ReadAll(io.LimitReader(r.Body, maxBodyBytes+1))
	b.tooLarge = len(b.bytes) > maxBodyBytes
	return b, err
}

// requestBody is a body that was parsed. Members are looked up by their exact
// names, which encoding/json's own struct decoding would not do.
type requestBody struct {
	// missing is true for no body and for JSON's null: reading a member of it
	// is the vault's "unexpected error".
	missing bool
	// members is nil for what is no object: it has no members.
	members map[string]json.RawMessage
}

// parseBody judges a body by its content type, as the vault does before it looks
// at any token. The answer is nil if the body is fine.
func parseBody(b rawBody) (requestBody, *answer) {
	refuse := func(a answer) (requestBody, *answer) { return requestBody{}, &a }
	if !b.typed {
		if len(b.bytes) > 0 || b.tooLarge {
			return refuse(unsupportedMediaType())
		}
		return requestBody{missing: true}, nil
	}
	media, _, err := mime.ParseMediaType(b.contentType)
	switch {
	case err != nil || media != "application/json" && media != "text/plain":
		return refuse(unsupportedMediaType())
	case b.tooLarge:
		return refuse(bodyTooLarge())
	case media == "text/plain":
		return requestBody{}, nil // a string: it has no members
	case len(b.bytes) == 0:
		return refuse(emptyBody())
	}
	text := bytes.TrimPrefix(b.bytes, []byte("\ufeff"))
	if !json.Valid(text) {
		return refuse(malformedBody())
	}
	text = bytes.TrimSpace(text)
	switch text[0] {
	case 'n':
		return requestBody{missing: true}, nil
	case '{':
		body := requestBody{}
		if err := json.Unmarshal(text, &body.members); err != nil {
			return refuse(malformedBody())
		}
		return body, nil
	}
	return requestBody{}, nil
}

// falsy reports whether the member is absent or one of the values that the
// vault takes for absent: null, false, 0 and "".
func (b requestBody) falsy(name string) bool {
	raw, ok := b.members[name]
	if !ok {
		return true
	}
	switch string(raw) {
	case "null", "false", `""`:
		return true
	}
	n, err := strconv.ParseFloat(string(raw), 64)
	return err == nil && n == 0
}

// text returns a member that is a string.
func (b requestBody) text(name string) (string, bool) {
	var s string
	raw, ok := b.members[name]
	if !ok || len(raw) == 0 || raw[0] != '"' {
		return "", false
	}
	return s, json.Unmarshal(raw, &s) == nil
}

// given reports whether the member is there and not null.
func (b requestBody) given(name string) bool {
	raw, ok := b.members[name]
	return ok && string(raw) != "null"
}

// parseExpiry reads a tokenExpiresAt: a date as ECMAScript's Date reads it, in
// the forms that clients send, or milliseconds since 1970. Everything finer than
// a millisecond is cut off.
func parseExpiry(raw json.RawMessage) (time.Time, bool) {
	var ms float64
	if json.Unmarshal(raw, &ms) == nil {
		const furthest = 8.64e15 // the range of ECMAScript's Date, ± 100 million days
		return time.UnixMilli(int64(ms)).UTC(), ms >= -furthest && ms <= furthest
	}
	var s string
	if json.Unmarshal(raw, &s) != nil {
		return time.Time{}, false
	}
	for _, layout := range []string{
		time.RFC3339, "2006-01-02T15:04Z07:00", "2006-01-02T15:04:05", "2006-01-02T15:04", time.DateOnly,
	} {
		if t, err := time.Parse(layout, s); err == nil {
			return t.UTC().Truncate(time.Millisecond), true
		}
	}
	return time.Time{}, false
}

// isoTime is a time as the vault writes it: UTC, with milliseconds.
func isoTime(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

// headerBytes is the size of the header block as it was sent, about.
func headerBytes(r *http.Request) int {
	const lineEnd, colon = 2, 2
	n := len(r.Method) + 1 + len(r.RequestURI) + 1 + len(r.Proto) + lineEnd
	n += len("Host") + colon + len(r.Host) + lineEnd
	for name, values := range r.Header {
		for _, v := range values {
			n += len(name) + colon + len(v) + lineEnd
		}
	}
	return n
}

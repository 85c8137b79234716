package socketapi

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"sync/atomic"

	"github.com/grantexd/grantexd/socketapi/wire"
	"github.com/grantexd/grantexd/upstream/secret"
)

// Rendered is a credential as it goes over the wire, with all header values that
// don't change while it is held. It is made once, when the credential is cached,
// so that a read copies bytes and renders nothing.
//
// It holds the token. Everything that prints it prints [secret.Redacted]. It is
// immutable and safe for concurrent use; make one with [Render].
type Rendered struct {
	// A function and not the values, nor a pointer to them: fmt calls no
	// methods on unexported fields, so a Rendered in somebody's unexported
	// field would be printed byte by byte; of a pointer %s does the same. Of a
	// function there is nothing to print but the address.
	payload func() *payload
}

// payload is what a Rendered holds.
type payload struct {
	service, fingerprint string
	json, text           representation
	// etag and expires are nil where there is no such header.
	etag, expires []string
	// freshness holds the dynamic header values of the last hit: the readers
	// of one second share them.
	freshness atomic.Pointer[freshness]
}

// representation is one form of the same credential.
type representation struct {
	body                       []byte
	contentType, contentLength []string
}

// Values of headers that are the same in every answer. They are put into header
// maps as they are; nobody may change them.
var (
	headerJSON    = []string{"application/json; charset=utf-8"}
	headerText    = []string{"text/plain; charset=utf-8"}
	headerNoStore = []string{"no-store"}
	headerNoSniff = []string{"nosniff"}
	headerClose   = []string{"close"}
)

// Render prepares c for being read. The fingerprint becomes the ETag; it is of
// visible ASCII without quotes. A credential whose metadata is no JSON is a bug
// of the caller's, and is rendered without it.
func Render(c wire.Credential, fingerprint string) *Rendered {
	body, err := c.MarshalJSON()
	if err != nil {
		// Only the metadata can fail, since all else are strings.
		c.Metadata = nil
		body, _ = c.MarshalJSON()
	}
	p := &payload{
		service:     c.Service,
		fingerprint: fingerprint,
		json:        represent(body, headerJSON),
		text:        represent([]byte(c.AccessToken.Reveal()), headerText),
	}
	if fingerprint != "" {
		p.etag = []string{`"` + fingerprint + `"`}
	}
	if !c.TokenExpiresAt.IsZero() {
		p.expires = []string{c.TokenExpiresAt.UTC().Format(http.TimeFormat)}
	}
	return &Rendered{payload: func() *payload { return p }}
}

func represent(body []byte, contentType []string) representation {
	return representation{
		body:          body,
		contentType:   contentType,
		contentLength: []string{strconv.Itoa(len(body))},
	}
}

// Service returns the name of the service that the credential is for.
func (r *Rendered) Service() string { return r.payload().service }

// Fingerprint returns the credential's fingerprint, which is no secret.
func (r *Rendered) Fingerprint() string { return r.payload().fingerprint }

// Format implements [fmt.Formatter] for all verbs with [secret.Redacted].
func (r Rendered) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, secret.Redacted) }

// String returns [secret.Redacted].
func (r Rendered) String() string { return secret.Redacted }

// GoString returns [secret.Redacted].
func (r Rendered) GoString() string { return secret.Redacted }

// MarshalText returns [secret.Redacted], for every encoder that knows
// encoding.TextMarshaler.
func (r Rendered) MarshalText() ([]byte, error) { return []byte(secret.Redacted), nil }

// LogValue returns [secret.Redacted], for log/slog.
func (r Rendered) LogValue() slog.Value { return slog.StringValue(secret.Redacted) }

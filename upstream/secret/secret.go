// Package secret holds strings that must never be printed.
//
// It is a package of its own because every layer carries secrets (the grant
// token, the credentials, the developer's API key) and none of them may have to
// import another layer for the one type that keeps them out of logs.
package secret

import (
	"fmt"
	"io"
	"log/slog"
	"unique"
)

// Redacted stands wherever a secret would have been printed.
const Redacted = "[redacted]"

// Text is a secret string. All of its formatting methods print [Redacted], so
// neither %v, %#v, JSON, YAML nor slog can leak it by accident; only
// [Text.Reveal] returns the characters. The zero value is the empty secret.
//
// Text is comparable, so equality of two secrets can be tested without
// revealing either; where an attacker chooses one side, use
// crypto/subtle on the revealed strings instead.
type Text struct {
	// A handle, not a string: fmt calls no methods on unexported fields, and
	// would print a string that lies in one.
	handle unique.Handle[string]
}

// New wraps s.
func New(s string) Text {
	if s == "" {
		return Text{}
	}
	return Text{handle: unique.Make(s)}
}

// Reveal returns the secret itself. A call of it is what a reviewer looks for:
// there is one where a request is signed, one where an answer is rendered, and
// few others.
func (t Text) Reveal() string {
	if t.IsZero() {
		return ""
	}
	return t.handle.Value()
}

// IsZero reports whether there is no secret at all.
func (t Text) IsZero() bool { return t == Text{} }

// Format prints [Redacted] for every verb.
func (t Text) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, Redacted) }

// String returns [Redacted].
func (t Text) String() string { return Redacted }

// GoString returns [Redacted], for whoever asks for it directly.
func (t Text) GoString() string { return Redacted }

// MarshalText returns [Redacted], for every encoder that knows
// encoding.TextMarshaler.
func (t Text) MarshalText() ([]byte, error) { return []byte(Redacted), nil }

// LogValue returns [Redacted], for log/slog.
func (t Text) LogValue() slog.Value { return slog.StringValue(Redacted) }

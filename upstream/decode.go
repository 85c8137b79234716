package upstream

import (
	"encoding/json"
	"time"
	"unicode/utf8"
)

// decoder takes the fields out of a JSON object of the vault. The first thing
// that is wrong stays in reason, in words that quote nothing of the object: it
// holds a token.
type decoder struct {
	fields map[string]json.RawMessage
	reason string
}

// decode begins with an answer's body.
func decode(a *answer) *decoder {
	switch {
	case a.tooLong:
		return &decoder{reason: "it is longer than 1 MiB"}
	case !utf8.Valid(a.body):
		return &decoder{reason: "it is not UTF-8"}
	case !json.Valid(a.body):
		return &decoder{reason: "it is not JSON, or was cut off; a proxy or a login page in between may have answered"}
	}
	return decodeObject(a.body)
}

// decodeObject begins with JSON that is known to be valid.
func decodeObject(raw json.RawMessage) *decoder {
	d := &decoder{}
	if json.Unmarshal(raw, &d.fields) != nil || d.fields == nil {
		d.reason = "it is not a JSON object"
	}
	return d
}

// fail keeps the first reason.
func (d *decoder) fail(reason string) {
	if d.reason == "" {
		d.reason = reason
	}
}

// text returns a string, "" if it is absent or null.
func (d *decoder) text(name string) string {
	var s string
	if raw, ok := d.fields[name]; ok && json.Unmarshal(raw, &s) != nil {
		d.fail(name + " is not a string")
	}
	return s
}

// required returns a string that must be there.
func (d *decoder) required(name string) string {
	s := d.text(name)
	if s == "" {
		d.fail(name + " is missing or empty")
	}
	return s
}

// time returns a moment, the zero time if it is absent, null or "".
func (d *decoder) time(name string) time.Time {
	s := d.text(name)
	if s == "" {
		return time.Time{}
	}
	t, ok := parseTime(s)
	if !ok {
		d.fail(name + " is not a date and time of RFC 3339")
	}
	return t
}

// metadata returns the metadata as the documents promise it.
func (d *decoder) metadata() json.RawMessage { return normalizeMetadata(d.fields["metadata"]) }

// err returns what is wrong with the answer, nil if nothing is.
func (d *decoder) err(a *answer) error {
	if d.reason == "" {
		return nil
	}
	return &MalformedError{URL: a.url, Reason: d.reason}
}

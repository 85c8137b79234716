package main

import (
	"encoding/json"
	"time"

	"github.com/grantexd/grantexd/socketapi/wire"
)

// vaultTime is a time in --json as the vault writes it: in UTC with exactly three
// digits of milliseconds, where encoding/json would leave out zeros. The zero
// value is null.
type vaultTime struct{ time.Time }

// MarshalJSON writes the time, or null.
func (t vaultTime) MarshalJSON() ([]byte, error) {
	if t.IsZero() {
		return json.Marshal(nil)
	}
	return json.Marshal(t.UTC().Format(wire.ExpiryLayout))
}

// moment writes a time for people, in their zone.
func moment(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return t.Local().Format("2006-01-02 15:04:05 MST")
}

package upstream

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestNormalizeMetadata(t *testing.T) {
	for _, tt := range []struct{ name, raw, want string }{
		{"absent", ``, `{}`},
		{"null", `null`, `{}`},
		{"empty string", `""`, `{}`},
		{"string with null", `"null"`, `{}`},
		{"string with null and blanks", `" null "`, `{}`},
		{"object", `{"a":1}`, `{"a":1}`},
		{"object with blanks", "{ \"a\" :\n[ 1, 2 ] }", `{"a":[1,2]}`},
		{"empty object", `{ }`, `{}`},
		{"string with an object", `"{\"a\":1}"`, `{"a":1}`},
		{"string with an object and blanks", `" {\"a\" : 1}\n"`, `{"a":1}`},
		{"string with an empty object", `"{}"`, `{}`},
		{"list", `[1,2]`, `{"value":[1,2]}`},
		{"string with a list", `"[1,2]"`, `{"value":[1,2]}`},
		{"string with a string", `"\"plain\""`, `{"value":"plain"}`},
		{"string with an empty string", `"\"\""`, `{"value":""}`},
		{"string with a string with an object", `"\"{}\""`, `{"value":"{}"}`},
		{"number", `7`, `{"value":7}`},
		{"string with a number", `"7"`, `{"value":7}`},
		{"boolean", `false`, `{"value":false}`},
		{"string with a boolean", `"true"`, `{"value":true}`},
		{"string that is no JSON", `"hello, world"`, `{"value":"hello, world"}`},
		{"string that is half an object", `"{\"a\":"`, `{"value":"{\"a\":"}`},
		{"string of blanks", `"  "`, `{"value":"  "}`},
		{"string with special characters", `"<&>\u2028\n☃"`, `{"value":"<&>\u2028\n☃"}`},
		{"long integer", `{"n":12345678901234567890123}`, `{"n":12345678901234567890123}`},
		{"numbers as spelled", `"{\"n\":[1.10,1e400,-0,0.1e-7]}"`, `{"n":[1.10,1e400,-0,0.1e-7]}`},
		{"name twice", `{"a":1,"a":2}`, `{"a":1,"a":2}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			require.Equal(t, tt.want, string(normalizeMetadata(json.RawMessage(tt.raw))))
		})
	}
}

// The result shares no memory with the body, which holds the token.
func TestNormalizeMetadataCopies(t *testing.T) {
	raw := json.RawMessage(`{"a":"` + strings.Repeat("x", 100) + `"}`)
	got := normalizeMetadata(raw)
	raw[6] = 'y'
	require.NotContains(t, string(got), "y")
}

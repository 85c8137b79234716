package upstream

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/grantexd/grantexd/upstream/secret"
)

// FuzzCredential feeds whole bodies to the exchange: whatever comes, it is
// either a credential that keeps what its type promises, or an error that
// quotes nothing.
func FuzzCredential(f *testing.F) {
	fixtures, err := filepath.Glob(filepath.Join("testdata", "wire", "*.http"))
	if err != nil || len(fixtures) == 0 {
		f.Fatal("no fixtures", err)
	}
	for _, name := range fixtures {
		raw, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		_, body, _ := bytes.Cut(raw, []byte("\r\n\r\n"))
		f.Add(body, "github")
	}
	f.Fuzz(func(t *testing.T, body []byte, service string) {
		a := &answer{status: 200, header: http.Header{}, body: body, url: "https://vault.test/x"}
		cred, err := decodeCredential(a, service)
		if err != nil {
			checkReason(t, err)
			checkErrorOf(t, a)
			return
		}
		if cred.AccessToken.IsZero() || !strings.EqualFold(cred.Service, service) {
			t.Fatalf("no credential of %q: %v", service, cred)
		}
		if e := cred.TokenExpiresAt; !e.Equal(e.Truncate(time.Millisecond)) || e.Location() != time.UTC {
			t.Fatalf("expiry %v", e)
		}
		checkObject(t, cred.Metadata)
	})
}

// checkReason refuses any reason that is not made of the decoder's own words.
func checkReason(t *testing.T, err error) {
	t.Helper()
	var malformed *MalformedError
	if !errors.As(err, &malformed) {
		t.Fatalf("%T", err)
	}
	for _, field := range []string{"accessToken", "service", "credentialType", "tokenExpiresAt"} {
		for _, wrong := range []string{"is missing or empty", "is not a string", "is not a date and time of RFC 3339"} {
			if malformed.Reason == field+" "+wrong {
				return
			}
		}
	}
	switch malformed.Reason {
	case "it is not UTF-8", "it is not a JSON object", "it is the credential of another service",
		"it is not JSON, or was cut off; a proxy or a login page in between may have answered":
		return
	}
	t.Fatalf("reason %q", malformed.Reason)
}

// checkErrorOf reads the same body as that of an error.
func checkErrorOf(t *testing.T, a *answer) {
	t.Helper()
	c, err := New(Options{BaseURL: "https://vault.test", Transport: http.DefaultTransport})
	if err != nil {
		t.Fatal(err)
	}
	const canary = "canary"
	e := c.errorOf(a, []secret.Text{secret.New(canary)})
	if len(e.Message) > maxMessage || strings.ContainsAny(e.Message+e.Code+e.RequestID, "\x00\n\r\x1b") {
		t.Fatalf("%q", e)
	}
	if strings.Contains(e.Error(), canary) || strings.Contains(e.RequestID, canary) {
		t.Fatalf("%q", e)
	}
}

// checkObject refuses metadata that is no compact JSON object.
func checkObject(t *testing.T, metadata json.RawMessage) {
	t.Helper()
	var compact bytes.Buffer
	var object map[string]json.RawMessage
	if json.Compact(&compact, metadata) != nil || !bytes.Equal(compact.Bytes(), metadata) ||
		json.Unmarshal(metadata, &object) != nil || object == nil {
		t.Fatalf("metadata %q", metadata)
	}
}

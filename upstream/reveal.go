package upstream

import (
	"errors"
	"net/http"
	"strings"
	"unicode/utf8"

	"github.com/grantexd/grantexd/upstream/secret"
)

// This file has every call of Reveal in the package.

// minPart is the shortest part of a token that is looked for in a message. A
// shorter one opens nothing, and would hit ordinary words.
const minPart = 12

// authorize signs the request. The vault takes "Bearer" with a capital B only.
func authorize(h http.Header, token secret.Text) {
	h.Set("Authorization", "Bearer "+token.Reveal())
}

// sendable reports whether token can stand in a header (RFC 6750, b64token,
// generously): net/http would refuse it, or worse, cut it.
func sendable(token secret.Text) bool {
	for _, c := range []byte(token.Reveal()) {
		if c <= ' ' || c > '~' {
			return false
		}
	}
	return !token.IsZero()
}

// storeTokens puts the secrets of a credential to be stored into the body.
func storeTokens(body *storeBody, p StoreParams) error {
	body.AccessToken = p.AccessToken.Reveal()
	body.RefreshToken = p.RefreshToken.Reveal()
	switch {
	case body.AccessToken == "":
		return errors.New("the access token is missing")
	case !utf8.ValidString(body.AccessToken), !utf8.ValidString(body.RefreshToken):
		return errors.New("a token that is not UTF-8 can't be stored") // JSON would change it silently
	}
	return nil
}

// redact takes the secrets out of a text that came from outside, and the parts
// of a token too (a JWT's signature alone is not to be printed either).
func redact(text string, secrets []secret.Text) string {
	for _, s := range secrets {
		if s.IsZero() {
			continue
		}
		text = strings.ReplaceAll(text, s.Reveal(), secret.Redacted)
		for part := range strings.SplitSeq(s.Reveal(), ".") {
			if len(part) >= minPart {
				text = strings.ReplaceAll(text, part, secret.Redacted)
			}
		}
	}
	return text
}

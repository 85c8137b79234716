package grant

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/grantexd/grantexd/upstream/secret"
)

// MaxFileSize is the greatest size of a grant file, in bytes. The vault refuses
// longer request headers, so a longer token could never be used.
const MaxFileSize = 16 << 10

// What [Parse] finds wrong. Their texts are predicates of a file, say what to do
// where that isn't plain, and never quote the content.
var (
	// ErrTooLarge means more than [MaxFileSize] bytes.
	ErrTooLarge = fmt.Errorf("longer than %d bytes, so it is no grant token", MaxFileSize)
	// ErrEmpty means that there is nothing but white space.
	ErrEmpty = errors.New("empty: write the grant token into it")
	// ErrBearer means that the word Bearer was pasted along with the token.
	ErrBearer = errors.New(`starts with the word "Bearer": write the token alone`)
	// ErrJSON means that it starts like a JSON object and isn't one.
	ErrJSON = errors.New("starts like a JSON object but is none: is it cut short?")
	// ErrNoTokenField means a JSON object without the string grantToken.
	ErrNoTokenField = errors.New(`a JSON object without a string in the field "grantToken"`)
	// ErrNotJWT means that it has not the form of a signed JWT (RFC 7519, 3 and
	// RFC 7515, 7.1).
	ErrNotJWT = errors.New("not a JWT: expected are three base64url segments joined by dots, with a JSON object in the first two")
	// ErrAlgorithm means that the JWT's header has no alg, or "none".
	ErrAlgorithm = errors.New("a JWT that names no signature algorithm")
	// ErrSignature means that the signature has not the length that its
	// algorithm asks for.
	ErrSignature = errors.New("a JWT with a signature of the wrong length: is it cut short?")
	// ErrClaim means that a claim which grantexd reads has the wrong type.
	ErrClaim = errors.New("a JWT with a claim of the wrong type")
)

// signatureSizes are the lengths of a signature in bytes, by alg (RFC 7518, 3.1;
// RFC 8037, 3.1; RFC 8812, 3.2; RFC 9864, 2.2). RSA signatures are as long as the
// key: 2048, 3072 or 4096 bits.
var signatureSizes = map[string][]int{
	"HS256": {32}, "HS384": {48}, "HS512": {64},
	"RS256": {256, 384, 512}, "RS384": {256, 384, 512}, "RS512": {256, 384, 512},
	"PS256": {256, 384, 512}, "PS384": {256, 384, 512}, "PS512": {256, 384, 512},
	"ES256": {64}, "ES256K": {64}, "ES384": {96}, "ES512": {132},
	"EdDSA": {64}, "Ed25519": {64},
}

// maxDate is the last second of the year 9999, beyond which neither RFC 3339 nor
// encoding/json can write a time. A claim in milliseconds lies beyond it.
var maxDate = float64(time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC).Unix())

// Parse reads the content of a grant file: the bare JWT, or a JSON object that
// has it in the field grantToken, as the vault's token endpoint answers. A byte
// order mark and white space around either don't matter.
//
// The signature is not verified, only its length is; a token whose exp has
// passed is parsed like any other. Errors are the Err variables of this package,
// wrapped or not; they never hold a part of the content.
func Parse(content []byte) (*Grant, error) {
	if len(content) > MaxFileSize {
		return nil, ErrTooLarge
	}
	content = trim(content)
	if len(content) == 0 {
		return nil, ErrEmpty
	}
	if content[0] == '{' {
		var err error
		if content, err = tokenField(content); err != nil {
			return nil, err
		}
	}
	if len(content) >= 7 && strings.EqualFold(string(content[:7]), "Bearer ") {
		return nil, ErrBearer
	}
	return parseToken(string(content))
}

// trim removes a byte order mark, which some editors write, and white space.
func trim(content []byte) []byte {
	return bytes.TrimSpace(bytes.TrimPrefix(content, []byte("\xef\xbb\xbf")))
}

// tokenField returns the field grantToken of a JSON object. It decodes into a
// map, since encoding/json would take a struct's field in any letter case.
func tokenField(object []byte) ([]byte, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(object, &fields); err != nil {
		return nil, ErrJSON // err quotes the content
	}
	var token string
	if err := json.Unmarshal(fields["grantToken"], &token); err != nil {
		return nil, ErrNoTokenField
	}
	if token = strings.TrimSpace(token); token == "" {
		return nil, ErrNoTokenField
	}
	return []byte(token), nil
}

// parseToken reads a bare JWT.
func parseToken(token string) (*Grant, error) {
	// Go's base64 decoder skips line breaks, which an HTTP header can't carry.
	if strings.ContainsFunc(token, func(r rune) bool { return r != '.' && !isBase64URL(r) }) {
		return nil, ErrNotJWT
	}
	var payload jwt.MapClaims
	parser := jwt.NewParser(jwt.WithStrictDecoding())
	parsed, segments, err := parser.ParseUnverified(token, &payload)
	// Unverifiable is a token with an alg that the library doesn't know: here
	// nobody verifies. The library reads the signature last, so that is what it
	// failed at if there is a method. Its errors quote the content.
	if err != nil && !errors.Is(err, jwt.ErrTokenUnverifiable) {
		if parsed != nil && parsed.Method != nil {
			return nil, ErrSignature
		}
		return nil, ErrNotJWT
	}
	if payload == nil || parsed.Header == nil { // the JSON was null
		return nil, ErrNotJWT
	}
	signature, err := parser.DecodeSegment(segments[2])
	if err != nil {
		return nil, ErrSignature
	}
	if err := checkSignature(parsed.Header["alg"], signature); err != nil {
		return nil, err
	}
	claims, err := readClaims(payload)
	if err != nil {
		return nil, err
	}
	return &Grant{Token: secret.New(token), Claims: claims, Hash: sha256.Sum256([]byte(token))}, nil
}

func isBase64URL(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_'
}

// checkSignature checks the signature's length. A file that is cut inside the
// signature has readable claims, so nothing else tells.
func checkSignature(algorithm any, signature []byte) error {
	alg, ok := algorithm.(string)
	if !ok || alg == "" || strings.EqualFold(alg, "none") {
		return ErrAlgorithm
	}
	sizes, known := signatureSizes[alg]
	if known && !slices.Contains(sizes, len(signature)) || len(signature) == 0 {
		return ErrSignature
	}
	return nil
}

// readClaims picks the claims that grantexd uses. Those that tell one consent
// from another must have the right type: taken for missing, two consents would
// look the same.
func readClaims(payload jwt.MapClaims) (Claims, error) {
	var c Claims
	for name, to := range map[string]*string{
		"iss": &c.Issuer, "sub": &c.Subject, "dev": &c.Developer,
		"agt": &c.Agent, "grnt": &c.GrantID, "jti": &c.TokenID,
	} {
		switch v := payload[name].(type) {
		case nil:
		case string:
			*to = v
		default:
			return Claims{}, fmt.Errorf("%w: %s is not a string", ErrClaim, name)
		}
	}
	for name, to := range map[string]*time.Time{"iat": &c.IssuedAt, "exp": &c.ExpiresAt} {
		// The library's own getters take 0 for a missing claim, and overflow.
		switch v := payload[name].(type) {
		case nil:
		case float64:
			if v < 0 || v > maxDate {
				return Claims{}, fmt.Errorf("%w: %s is not in seconds since 1970", ErrClaim, name)
			}
			*to = time.Unix(int64(math.Floor(v)), 0).UTC()
		default:
			return Claims{}, fmt.Errorf("%w: %s is not a number", ErrClaim, name)
		}
	}
	c.Scopes, c.ScopesKnown = readScopes(payload["scp"])
	return c, nil
}

// readScopes returns the scopes if scp is an array of strings. Anything else, an
// OAuth style "scope" included, is a shape of which only the vault knows what it
// covers.
func readScopes(scp any) ([]string, bool) {
	list, ok := scp.([]any)
	if !ok {
		return nil, false
	}
	scopes := make([]string, 0, len(list))
	for _, v := range list {
		s, ok := v.(string)
		if !ok {
			return nil, false
		}
		scopes = append(scopes, s)
	}
	return scopes, true
}

package grant

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// issuedNow is a fixed moment for tests of parsing alone.
var issuedNow = time.Unix(1_800_000_600, 0)

func TestParseReadsTheClaims(t *testing.T) {
	token := standardClaims(issuedNow, 24*time.Hour).token()
	g, err := Parse([]byte(token))
	require.NoError(t, err)
	require.Equal(t, token, g.Token.Reveal())
	require.Equal(t, sha256.Sum256([]byte(token)), g.Hash)
	require.Equal(t, Claims{
		Issuer: "https://vault.test", Subject: "user_ada", Developer: "dev_orange",
		Agent: "did:test:agent-7", GrantID: "grnt_one", TokenID: "tok_1",
		Scopes: []string{"github:read", "slack:*"}, ScopesKnown: true,
		IssuedAt: time.Unix(1_800_000_000, 0).UTC(), ExpiresAt: time.Unix(1_800_086_400, 0).UTC(),
	}, g.Claims)
}

// What the forms are made of.
const bom = "\xef\xbb\xbf"

var (
	formClaims = standardClaims(issuedNow, time.Hour)
	formToken  = formClaims.token()
	formObject = fmt.Sprintf(`{"grantToken":%q,"expiresAt":"2027-01-15T08:00:00Z","scopes":["a"]}`, formToken)
	formFull   = formToken + strings.Repeat("\n", MaxFileSize-len(formToken))
	formAlien  = formClaims.signed("ML-DSA-44", 1)
)

// forms are contents of a grant file.
var forms = []struct {
	name, content string
	want          error // nil: the token comes out
}{
	{"bare", formToken, nil},
	{"trailing newline", formToken + "\n", nil},
	{"white space around", " \r\n\t" + formToken + " \r\n\r\n", nil},
	{"byte order mark", bom + formToken + "\r\n", nil},
	{"object", formObject, nil},
	{"object with white space around", "\n" + formObject + "\n", nil},
	{"object with byte order mark", bom + formObject, nil},
	{"object with white space in the field", fmt.Sprintf(`{"grantToken":%q}`, formToken+"\n"), nil},
	{"exactly 16 KiB", formFull, nil},
	{"one byte more", formFull + "\n", ErrTooLarge},
	{"17 KB", strings.Repeat("a", 17_000), ErrTooLarge},
	{"empty", "", ErrEmpty},
	{"white space only", " \n\t", ErrEmpty},
	{"byte order mark only", bom, ErrEmpty},
	{"bearer", "Bearer " + formToken, ErrBearer},
	{"bearer in small letters", "bearer " + formToken, ErrBearer},
	{"bearer in the object", fmt.Sprintf(`{"grantToken":%q}`, "Bearer "+formToken), ErrBearer},
	{"object cut short", formObject[:len(formObject)-2], ErrJSON},
	{"object cut in the token", formObject[:200], ErrJSON},
	{"two objects", formObject + formObject, ErrJSON},
	{"object without the field", `{"token":"x"}`, ErrNoTokenField},
	{"field in another case", fmt.Sprintf(`{"granttoken":%q}`, formToken), ErrNoTokenField},
	{"field is null", `{"grantToken":null}`, ErrNoTokenField},
	{"field is a number", `{"grantToken":5}`, ErrNoTokenField},
	{"field is empty", `{"grantToken":" "}`, ErrNoTokenField},
	{"JSON array", `["` + formToken + `"]`, ErrNotJWT},
	{"JSON string", `"` + formToken + `"`, ErrNotJWT},
	{"garbage", "\x00\xff\x10garbage", ErrNotJWT},
	{"a page of HTML", "<!doctype html><title>502</title>", ErrNotJWT},
	{"two tokens", formToken + "\n" + formToken, ErrNotJWT},
	{"line break inside", formToken[:100] + "\n" + formToken[100:], ErrNotJWT},
	{"NUL at the end", formToken + "\x00", ErrNotJWT},
	{"padding", formToken + "==", ErrNotJWT},
	{"standard base64", strings.Replace(formToken, "e", "+", 1), ErrNotJWT},
	{"one segment", strings.ReplaceAll(formToken, ".", ""), ErrNotJWT},
	{"two segments", formToken[:strings.LastIndex(formToken, ".")], ErrNotJWT},
	{"four segments", formToken + ".AAAA", ErrNotJWT},
	{"dots", "..", ErrNotJWT},
	{"cut after the claims", formToken[:strings.LastIndex(formToken, ".")+1], ErrSignature},
	{"cut in the claims", formToken[:150], ErrNotJWT},
	{"last letter missing", formToken[:len(formToken)-1], ErrSignature},
	{"two letters missing", formToken[:len(formToken)-2], ErrSignature},
	{"three letters missing", formToken[:len(formToken)-3], ErrSignature},
	{"four letters missing", formToken[:len(formToken)-4], ErrSignature},
	{"cut in the middle of the signature", formToken[:len(formToken)-170], ErrSignature},
	{"cut in the signature of an unknown alg", formAlien[:len(formAlien)-1], ErrSignature},
	{"header is no object", jwtOf(`"RS256"`, `{}`, 256), ErrNotJWT},
	{"header is null", jwtOf(`null`, `{}`, 256), ErrNotJWT},
	{"claims are an array", jwtOf(`{"alg":"RS256"}`, `[]`, 256), ErrNotJWT},
	{"claims are null", jwtOf(`{"alg":"RS256"}`, `null`, 256), ErrNotJWT},
	{"claims are no JSON", jwtOf(`{"alg":"RS256"}`, `{"a":`, 256), ErrNotJWT},
}

func TestParseForms(t *testing.T) {
	for _, tt := range forms {
		t.Run(tt.name, func(t *testing.T) {
			g, err := Parse([]byte(tt.content))
			require.ErrorIs(t, err, tt.want)
			if tt.want == nil {
				require.Equal(t, formToken, g.Token.Reveal())
			} else {
				require.Nil(t, g)
			}
		})
	}
}

func TestParseSignatureLengths(t *testing.T) {
	tests := []struct {
		alg  any
		good []int
		bad  []int
		want error // for bad
	}{
		{"RS256", []int{256, 384, 512}, []int{0, 255, 257, 383, 385, 511, 513}, ErrSignature},
		{"RS384", []int{256, 384, 512}, []int{128}, ErrSignature},
		{"RS512", []int{256, 384, 512}, []int{1024}, ErrSignature},
		{"PS256", []int{256, 384, 512}, []int{64}, ErrSignature},
		{"PS384", []int{256, 384, 512}, []int{64}, ErrSignature},
		{"PS512", []int{256, 384, 512}, []int{64}, ErrSignature},
		{"ES256", []int{64}, []int{0, 63, 65, 96}, ErrSignature},
		{"ES256K", []int{64}, []int{63}, ErrSignature},
		{"ES384", []int{96}, []int{95, 97}, ErrSignature},
		{"ES512", []int{132}, []int{131, 133}, ErrSignature},
		{"EdDSA", []int{64}, []int{63, 65}, ErrSignature},
		{"Ed25519", []int{64}, []int{63}, ErrSignature},
		{"HS256", []int{32}, []int{31, 33}, ErrSignature},
		{"HS384", []int{48}, []int{47}, ErrSignature},
		{"HS512", []int{64}, []int{63}, ErrSignature},
		{"ML-DSA-44", []int{1, 2420}, []int{0}, ErrSignature}, // unknown here
		{"none", nil, []int{0, 256}, ErrAlgorithm},
		{"NONE", nil, []int{256}, ErrAlgorithm},
		{"", nil, []int{256}, ErrAlgorithm},
		{nil, nil, []int{256}, ErrAlgorithm},
		{256, nil, []int{256}, ErrAlgorithm},
		{[]string{"RS256"}, nil, []int{256}, ErrAlgorithm},
	}
	claims := standardClaims(issuedNow, time.Hour)
	for _, tt := range tests {
		t.Run(fmt.Sprint(tt.alg), func(t *testing.T) {
			for _, size := range tt.good {
				_, err := Parse([]byte(claims.signed(tt.alg, size)))
				require.NoError(t, err, size)
			}
			for _, size := range tt.bad {
				_, err := Parse([]byte(claims.signed(tt.alg, size)))
				require.ErrorIs(t, err, tt.want, size)
			}
		})
	}
}

// claimTypes are claims of right and wrong types.
var claimTypes = []struct {
	name  string
	claim string
	value any
	want  string // part of the error; "" for none
	check func(*testing.T, Claims)
}{
	{"no exp", "exp", nil, "", func(t *testing.T, c Claims) { require.True(t, c.ExpiresAt.IsZero()) }},
	{"exp 0 is long past, not missing", "exp", 0, "", func(t *testing.T, c Claims) {
		require.False(t, c.ExpiresAt.IsZero())
		require.Equal(t, int64(0), c.ExpiresAt.Unix())
	}},
	{"exp with a fraction is never rounded up", "exp", 1_800_000_000.9, "", func(t *testing.T, c Claims) {
		require.Equal(t, time.Unix(1_800_000_000, 0).UTC(), c.ExpiresAt)
	}},
	{"exp in the year 9999", "exp", 253402300799, "", func(t *testing.T, c Claims) {
		_, err := json.Marshal(c.ExpiresAt)
		require.NoError(t, err)
	}},
	{"exp a second later", "exp", 253402300800, "exp is not in seconds", nil},
	{"exp in milliseconds", "exp", 1_800_000_000_000, "exp is not in seconds", nil},
	{"exp beyond integers", "exp", 1e300, "exp is not in seconds", nil},
	{"negative exp", "exp", -1, "exp is not in seconds", nil},
	{"exp as a string", "exp", "1800000000", "exp is not a number", nil},
	{"no iat", "iat", nil, "", func(t *testing.T, c Claims) { require.True(t, c.IssuedAt.IsZero()) }},
	{"iat as an object", "iat", claimSet{}, "iat is not a number", nil},
	{"no grnt", "grnt", nil, "", func(t *testing.T, c Claims) { require.Empty(t, c.GrantID) }},
	{"grnt as a number", "grnt", 5, "grnt is not a string", nil},
	{"sub as an array", "sub", []string{"a"}, "sub is not a string", nil},
	{"dev as a boolean", "dev", true, "dev is not a string", nil},
	{"jti as a number", "jti", 1, "jti is not a string", nil},
	{"scp of one", "scp", []string{"*"}, "", func(t *testing.T, c Claims) {
		require.Equal(t, []string{"*"}, c.Scopes)
		require.True(t, c.ScopesKnown)
	}},
	{"empty scp is known to cover nothing", "scp", []string{}, "", func(t *testing.T, c Claims) {
		require.Empty(t, c.Scopes)
		require.True(t, c.ScopesKnown)
	}},
	{"no scp", "scp", nil, "", unknownScopes},
	{"scp as a string", "scp", "github:read slack:*", "", unknownScopes},
	{"scp with a number in it", "scp", []any{"github:read", 5}, "", unknownScopes},
	{"scp as an object", "scp", claimSet{"github": "read"}, "", unknownScopes},
}

func TestParseClaimTypes(t *testing.T) {
	base := standardClaims(issuedNow, time.Hour)
	for _, tt := range claimTypes {
		t.Run(tt.name, func(t *testing.T) {
			g, err := Parse([]byte(base.with(tt.claim, tt.value).token()))
			if tt.want != "" {
				require.ErrorIs(t, err, ErrClaim)
				require.ErrorContains(t, err, tt.want)
				return
			}
			require.NoError(t, err)
			tt.check(t, g.Claims)
		})
	}
	t.Run("OAuth scope", func(t *testing.T) {
		g, err := Parse([]byte(base.with("scp", nil).with("scope", "github:read").token()))
		require.NoError(t, err)
		unknownScopes(t, g.Claims)
	})
	t.Run("claims in another letter case are others", func(t *testing.T) {
		g, err := Parse([]byte(base.with("SUB", "user_eve").with("Exp", 1).token()))
		require.NoError(t, err)
		require.Equal(t, "user_ada", g.Claims.Subject)
		require.Equal(t, time.Unix(1_800_003_600, 0).UTC(), g.Claims.ExpiresAt)
	})
}

func unknownScopes(t *testing.T, c Claims) {
	require.Nil(t, c.Scopes)
	require.False(t, c.ScopesKnown)
}

func TestConsent(t *testing.T) {
	parse := func(c claimSet) Consent {
		g, err := Parse([]byte(c.token()))
		require.NoError(t, err)
		return g.Claims.Consent()
	}
	base := standardClaims(issuedNow, time.Hour)
	one := parse(base)
	require.True(t, one.Same(parse(base.with("jti", "tok_2").with("scp", []string{"*"}))))
	require.False(t, one.Same(parse(base.with("grnt", "grnt_two"))))
	require.False(t, one.Same(parse(base.with("sub", "user_eve"))))
	require.False(t, one.Same(parse(base.with("dev", "dev_blue"))))
	nameless := parse(base.with("grnt", nil))
	require.False(t, nameless.Same(nameless), "without a grant's name nobody knows")
}

// knownErrors are all that Parse may say, with numbers left out.
var knownErrors = regexp.MustCompile(`^(` + strings.Join([]string{
	regexp.QuoteMeta(ErrTooLarge.Error()), regexp.QuoteMeta(ErrEmpty.Error()), regexp.QuoteMeta(ErrBearer.Error()),
	regexp.QuoteMeta(ErrJSON.Error()), regexp.QuoteMeta(ErrNoTokenField.Error()), regexp.QuoteMeta(ErrNotJWT.Error()),
	regexp.QuoteMeta(ErrAlgorithm.Error()), regexp.QuoteMeta(ErrSignature.Error()),
	regexp.QuoteMeta(ErrClaim.Error()) + `: (iss|sub|dev|agt|grnt|jti) is not a string`,
	regexp.QuoteMeta(ErrClaim.Error()) + `: (iat|exp) is not (a number|in seconds since 1970)`,
}, "|") + `)$`)

func FuzzParse(f *testing.F) {
	f.Fuzz(func(t *testing.T, content []byte) { checkParse(t, content) })
}

// FuzzParseToken gets past base64, which FuzzParse seldom does.
func FuzzParseToken(f *testing.F) {
	f.Fuzz(func(t *testing.T, header, payload string, size uint16) {
		checkParse(t, []byte(jwtOf(header, payload, int(size))))
	})
}

// checkParse requires what holds for any content.
func checkParse(t *testing.T, content []byte) {
	g, err := Parse(content)
	if err != nil {
		require.Regexp(t, knownErrors, err.Error(), "an error must not hold content")
		require.Nil(t, g)
		return
	}
	token := g.Token.Reveal()
	require.LessOrEqual(t, len(content), MaxFileSize)
	require.Equal(t, sha256.Sum256([]byte(token)), g.Hash)
	segments := strings.Split(token, ".")
	require.Len(t, segments, 3)
	for _, s := range segments {
		require.NotEmpty(t, s)
		require.NotContains(t, s, "\n")
		_, err := base64.RawURLEncoding.Strict().DecodeString(s)
		require.NoError(t, err)
	}
	again, err := Parse([]byte(token))
	require.NoError(t, err)
	require.Equal(t, g, again, "the bare token must say the same as its file")
	_, err = json.Marshal(g.Claims)
	require.NoError(t, err, "claims must be fit for status")
}

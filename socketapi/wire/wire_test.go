package wire_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/grantexd/grantexd/socketapi/wire"
	"github.com/grantexd/grantexd/upstream/secret"
)

const canary = "canary-5e1d77"

func TestStatusOfCodes(t *testing.T) {
	for code, status := range map[wire.Code]int{
		wire.CodeBadRequest: 400, wire.CodeUnauthorized: 401, wire.CodeForbidden: 403, wire.CodePeerDenied: 403,
		wire.CodeForbiddenOrigin: 403, wire.CodeNoSuchRoute: 404, wire.CodeNotFound: 404,
		wire.CodeMethodNotAllowed: 405, wire.CodePayloadTooLarge: 413, wire.CodeUnsupportedMediaType: 415,
		wire.CodeRateLimited: 429, wire.CodeCredentialExpired: 502, wire.CodeUpstreamError: 502,
		wire.CodeGrantUnavailable: 503, wire.CodeUpstreamTimeout: 504, wire.CodeInternal: 500,
		"": 500, "UNHEARD_OF": 500,
	} {
		require.Equal(t, status, code.Status(), code)
		require.NotEmpty(t, http.StatusText(code.Status()))
	}
}

func TestErrorShape(t *testing.T) {
	e := &wire.Error{Message: "what and what to do", Code: wire.CodeRateLimited, RequestID: "r-1", RetryAfter: 7}
	b, err := json.Marshal(e)
	require.NoError(t, err)
	require.JSONEq(t, `{"message":"what and what to do","code":"RATE_LIMITED","requestId":"r-1","retryAfter":7}`, string(b))
	require.EqualError(t, e, "what and what to do")

	b, err = json.Marshal(&wire.Error{Message: "m", Code: wire.CodeNotFound, RequestID: "r"})
	require.NoError(t, err)
	require.JSONEq(t, `{"message":"m","code":"NOT_FOUND","requestId":"r"}`, string(b), "the vault's own three fields")
}

func TestCredentialRoundTrip(t *testing.T) {
	expiry := time.Date(2031, 4, 5, 6, 7, 8, 9e6, time.UTC)
	cases := []struct {
		name string
		c    wire.Credential
		json string
	}{
		{"all", wire.Credential{
			AccessToken: secret.New(canary), Service: "github", CredentialType: "oauth2",
			TokenExpiresAt: expiry, Metadata: json.RawMessage(`{"login":"octocat"}`),
		}, `{"accessToken":"` + canary + `","service":"github","credentialType":"oauth2",
			"tokenExpiresAt":"2031-04-05T06:07:08.009Z","metadata":{"login":"octocat"}}`},
		{"no expiry", wire.Credential{AccessToken: secret.New("<&>"), Service: "s", Metadata: json.RawMessage(`{}`)},
			`{"accessToken":"<&>","service":"s","credentialType":"","tokenExpiresAt":null,"metadata":{}}`},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			b, err := json.Marshal(c.c)
			require.NoError(t, err)
			require.JSONEq(t, c.json, string(b))
			var back wire.Credential
			require.NoError(t, json.Unmarshal(b, &back))
			require.Equal(t, c.c, back)
		})
	}
}

func TestCredentialExpiryIsInUTC(t *testing.T) {
	c := wire.Credential{TokenExpiresAt: time.Date(2031, 1, 1, 1, 0, 0, 0, time.FixedZone("east", 2*3600))}
	b, err := json.Marshal(c)
	require.NoError(t, err)
	require.Contains(t, string(b), `"2030-12-31T23:00:00.000Z"`)
	require.Contains(t, string(b), `"metadata":{}`, "an object even if there is none")
}

func TestBrokenCredentialsQuoteNothing(t *testing.T) {
	for _, b := range []string{
		`{"accessToken":["` + canary + `"]}`, `{"accessToken":"` + canary, `{"accessToken":"a","tokenExpiresAt":"soon"}`, `[]`,
		`{"accessToken":{"` + canary + `":1}}`,
	} {
		c := wire.Credential{Service: "kept"}
		err := json.Unmarshal([]byte(b), &c)
		require.Error(t, err, b)
		require.NotContains(t, err.Error(), canary)
		require.Equal(t, wire.Credential{Service: "kept"}, c, "not changed by half")
	}
}

// everyType has a value of each exported type, with the canary where a token can
// be.
func everyType() []any {
	return []any{
		wire.CodeInternal,
		wire.Error{Message: "m"},
		wire.Credential{AccessToken: secret.New(canary), Service: "github"},
		wire.Exchange{Service: "github"},
		wire.Rejected{Fingerprint: "f"},
		wire.Held{Service: "github"},
		wire.CredentialList{Credentials: []wire.Held{{}}},
		wire.Explanation{Held: &wire.Held{}},
		wire.Status{Warnings: []string{"w"}},
		wire.Grant{State: "usable"},
		wire.Budget{}, wire.Cache{}, wire.Upstream{},
	}
}

func TestNoTypePrintsAToken(t *testing.T) {
	var names []string
	for _, v := range everyType() {
		names = append(names, reflect.TypeOf(v).Name())
		pointer := reflect.New(reflect.TypeOf(v))
		pointer.Elem().Set(reflect.ValueOf(v))
		holder := struct {
			V any
			P any
		}{v, pointer.Interface()}
		var out bytes.Buffer
		for _, h := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
			slog.New(h).Info("x", "v", v, "p", pointer.Interface())
		}
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x"} {
			fmt.Fprintf(&out, verb+verb+verb, v, pointer.Interface(), holder)
		}
		fmt.Fprint(&out, fmt.Errorf("wrapped: %v", v), errors.Join(fmt.Errorf("%+v", holder)))
		require.NotContains(t, out.String(), canary, "%T", v)
		require.NotContains(t, out.String(), fmt.Sprintf("%x", canary), "%T", v)
	}
	require.ElementsMatch(t, exportedTypes(t), names, "a type was added: add it to everyType")
}

// exportedTypes are the names of the package's types, from its source.
func exportedTypes(t *testing.T) []string {
	t.Helper()
	var names []string
	files, err := fs.Glob(os.DirFS("."), "*.go")
	require.NoError(t, err)
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		require.NoError(t, err)
		for _, decl := range parsed.Decls {
			group, ok := decl.(*ast.GenDecl)
			if !ok {
				continue
			}
			for _, spec := range group.Specs {
				if s, ok := spec.(*ast.TypeSpec); ok && s.Name.IsExported() {
					names = append(names, s.Name.Name)
				}
			}
		}
	}
	slices.Sort(names)
	return names
}

func FuzzCredential(f *testing.F) {
	f.Add([]byte(`{"accessToken":"a","service":"s","tokenExpiresAt":"2031-04-05T06:07:08.009Z","metadata":{"a":[1]}}`))
	f.Add([]byte(`{"accessToken":"a","tokenExpiresAt":null,"metadata":"x"}`))
	f.Add([]byte(`{"tokenExpiresAt":"9999-12-31T23:59:59+23:59"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var c wire.Credential
		if json.Unmarshal(b, &c) != nil {
			return
		}
		again, err := json.Marshal(c)
		if err != nil {
			return // a year beyond 9999
		}
		var back wire.Credential
		require.NoError(t, json.Unmarshal(again, &back))
		require.Equal(t, c.AccessToken.Reveal(), back.AccessToken.Reveal())
		require.Equal(t, c.Service, back.Service)
		require.WithinDuration(t, c.TokenExpiresAt, back.TokenExpiresAt, time.Millisecond)
	})
}

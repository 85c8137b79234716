package socketapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/grantexd/grantexd/socketapi/access"
	"github.com/grantexd/grantexd/socketapi/peer"
	"github.com/grantexd/grantexd/socketapi/wire"
)

// newAPI returns an API with a log at debug level.
func newAPI(t testing.TB, o Options) (*API, *syncBuffer) {
	t.Helper()
	log := &syncBuffer{}
	o.Logger = slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	a, err := New(o)
	require.NoError(t, err)
	return a, log
}

// call is one request to the handler. Method is GET and Host is right unless they
// are set.
type call struct {
	method, path, host, body string
	header                   http.Header
	id                       *peer.Identity // nil for none at all
	ctx                      context.Context
}

func (c call) request() *http.Request {
	if c.method == "" {
		c.method = http.MethodGet
	}
	var body io.Reader
	if c.body != "" {
		body = strings.NewReader(c.body)
	}
	r := httptest.NewRequest(c.method, c.path, body)
	r.Host = "grantexd"
	if c.host != "" {
		r.Host = c.host
	}
	if c.header != nil {
		r.Header = c.header
	}
	if c.ctx != nil {
		r = r.WithContext(c.ctx)
	}
	if c.id != nil {
		r = r.WithContext(context.WithValue(r.Context(), sessionKey{}, newSession(c.id, nil)))
	}
	return r
}

func (c call) do(a *API) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	a.Handler().ServeHTTP(w, c.request())
	return w
}

// post is an exchange of the body.
func post(path, body string) call {
	return call{
		method: http.MethodPost, path: path, body: body,
		header: http.Header{"Content-Type": {"application/json"}},
	}
}

// requireError checks that the answer is an error in the one shape, and returns
// it.
func requireError(t testing.TB, w *httptest.ResponseRecorder, code wire.Code) wire.Error {
	t.Helper()
	require.Equal(t, code.Status(), w.Code, w.Body.String())
	require.Equal(t, "application/json; charset=utf-8", w.Header().Get("Content-Type"))
	require.Equal(t, "no-store", w.Header().Get("Cache-Control"))
	require.Equal(t, "nosniff", w.Header().Get("X-Content-Type-Options"))
	require.Equal(t, strconv.Itoa(w.Body.Len()), w.Header().Get("Content-Length"))
	var e wire.Error
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &e))
	require.Equal(t, code, e.Code)
	require.NotEmpty(t, e.Message)
	require.Regexp(t, `^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`, e.RequestID)
	return e
}

func TestGetCredential(t *testing.T) {
	source := newFakeSource("github")
	a, _ := newAPI(t, Options{Source: source})
	w := call{path: "/v1/credentials/github"}.do(a)
	require.Equal(t, http.StatusOK, w.Code)
	var got wire.Credential
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &got))
	require.Equal(t, testCredential("github"), got)
	require.Equal(t, http.Header{
		"Content-Type":           {"application/json; charset=utf-8"},
		"Content-Length":         {strconv.Itoa(w.Body.Len())},
		"Cache-Control":          {"no-store"},
		"Cache-Status":           {"grantexd; hit; ttl=3540"},
		"Age":                    {"60"},
		"Etag":                   {`"` + testFingerprint + `"`},
		"Expires":                {"Sat, 05 Apr 2031 06:07:08 GMT"},
		"X-Content-Type-Options": {"nosniff"},
	}, w.Header())
	require.Equal(t, []Request{{Service: "github", Caller: "unknown", Wait: 10 * time.Second}}, source.asked())
}

func TestGetCredentialAsText(t *testing.T) {
	a, _ := newAPI(t, Options{Source: newFakeSource("github")})
	w := call{path: "/v1/credentials/github", header: http.Header{"Accept": {"text/plain"}}}.do(a)
	require.Equal(t, canary, w.Body.String())
	require.Equal(t, "text/plain; charset=utf-8", w.Header().Get("Content-Type"))
	require.Equal(t, `"`+testFingerprint+`"`, w.Header().Get("ETag"))
}

func TestIfNoneMatchIsIgnored(t *testing.T) {
	a, _ := newAPI(t, Options{Source: newFakeSource("github")})
	w := call{path: "/v1/credentials/github", header: http.Header{"If-None-Match": {`"` + testFingerprint + `"`}}}.do(a)
	require.Equal(t, http.StatusOK, w.Code, "its expiry could have changed")
}

func TestExchangeIsTheVaultsCall(t *testing.T) {
	source := newFakeSource("github")
	a, log := newAPI(t, Options{Source: source})
	c := post(wire.PathExchange, `{"service":"github","unknown":{"nested":[1]}}`)
	c.header.Set("Authorization", "Bearer "+canary)
	c.header.Set("Content-Type", "application/json; charset=utf-8")
	w := c.do(a)
	require.Equal(t, http.StatusOK, w.Code)
	require.Equal(t, call{path: "/v1/credentials/github"}.do(a).Body.String(), w.Body.String(), "the same answer as to a GET")
	require.Equal(t, "github", source.asked()[0].Service)
	requireNoCanary(t, log.String())
}

func TestExchangeBodies(t *testing.T) {
	const limit = 256
	cases := []struct {
		name, contentType, body string
		code                    wire.Code
		message                 string
	}{
		{"empty", "application/json", "", wire.CodeBadRequest, messageBodyEmpty},
		{"nothing at all", "", "", wire.CodeBadRequest, messageBodyEmpty},
		{"torn", "application/json", `{"service":`, wire.CodeBadRequest, messageBodyMalformed},
		{"two values", "application/json", `{"service":"github"} {}`, wire.CodeBadRequest, messageBodyMalformed},
		{"array", "application/json", `["github"]`, wire.CodeBadRequest, messageBodyMalformed},
		{"null", "application/json", `null`, wire.CodeBadRequest, messageBodyMalformed},
		{"string", "application/json", `"github"`, wire.CodeBadRequest, messageBodyMalformed},
		{"no service", "application/json", `{}`, wire.CodeBadRequest, messageServiceMissing},
		{"another case", "application/json", `{"Service":"github"}`, wire.CodeBadRequest, messageServiceMissing},
		{"null service", "application/json", `{"service":null}`, wire.CodeBadRequest, messageServiceMissing},
		{"empty service", "application/json", `{"service":""}`, wire.CodeBadRequest, messageServiceMissing},
		{"a number", "application/json", `{"service":7}`, wire.CodeBadRequest, messageServiceString},
		{"an object", "application/json", `{"service":{"a":"github"}}`, wire.CodeBadRequest, messageServiceString},
		{"a bad name", "application/json", `{"service":"../x"}`, wire.CodeBadRequest, messageServiceName},
		{"a line break", "application/json", `{"service":"a\r\nSet-Cookie: x"}`, wire.CodeBadRequest, messageServiceName},
		{"a long name", "application/json", `{"service":"` + strings.Repeat("a", 65) + `"}`, wire.CodeBadRequest, messageServiceName},
		{"form", "application/x-www-form-urlencoded", "service=github", wire.CodeUnsupportedMediaType, "content type must be application/json"},
		{"no type", "", `{"service":"github"}`, wire.CodeUnsupportedMediaType, "content type must be application/json"},
		{"another JSON", "application/vnd.api+json", `{"service":"github"}`, wire.CodeUnsupportedMediaType, "content type must be application/json"},
		{"unreadable type", ";;", `{"service":"github"}`, wire.CodeUnsupportedMediaType, "content type must be application/json"},
		{"one byte too much", "application/json", `{"service":"` + strings.Repeat("a", limit-13) + `"}`, wire.CodePayloadTooLarge, "body is larger than 256 bytes"},
		{"just fits", "application/json", `{"service":"` + strings.Repeat("a", limit-14) + `"}`, wire.CodeBadRequest, messageServiceName},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			source := newFakeSource("github")
			a, _ := newAPI(t, Options{Source: source, MaxBodyBytes: limit})
			request := post(wire.PathExchange, c.body)
			request.header.Set("Content-Type", c.contentType)
			if c.contentType == "" {
				request.header.Del("Content-Type")
			}
			e := requireError(t, request.do(a), c.code)
			require.Equal(t, c.message, e.Message)
			require.Empty(t, source.asked(), "a bad request costs no departure")
		})
	}
}

func TestExchangeWithABodyThatBreaksOff(t *testing.T) {
	a, _ := newAPI(t, Options{Source: newFakeSource("github")})
	r := post(wire.PathExchange, "x").request()
	r.Body = io.NopCloser(io.MultiReader(strings.NewReader(`{"service":`), brokenReader{}))
	w := httptest.NewRecorder()
	a.Handler().ServeHTTP(w, r)
	requireError(t, w, wire.CodeBadRequest)
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func TestServiceNamesInPaths(t *testing.T) {
	source := newFakeSource()
	a, log := newAPI(t, Options{Source: source})
	names := []string{
		"..", ".", "-a", "a%20b", "a%2Fb", "git%68ub", "%00", "a%0d%0aX-Injected:%20yes", "a/b", "a//b", "github/",
		"/github", "a;b", "a,b", strings.Repeat("a", 65), "%C3%A4", "..%2f..%2fhealthz", "", "a/rejected/", "%2e%2e",
	}
	for _, name := range names {
		for _, prefix := range []string{credentialPrefix, explainPrefix} {
			w := call{path: prefix + name}.do(a)
			e := requireError(t, w, wire.CodeBadRequest)
			require.NotContains(t, e.Message, "Injected")
			require.NotContains(t, w.Header(), "X-Injected")
		}
		requireError(t, post(credentialPrefix+name+rejectedSuffix, `{"fingerprint":"x"}`).do(a), wire.CodeBadRequest)
	}
	require.Empty(t, source.asked())
	require.NotContains(t, log.String(), "Injected", "what was not checked is not logged")
}

func TestPreferWait(t *testing.T) {
	cases := []struct {
		name    string
		prefer  []string
		want    time.Duration
		applied string
	}{
		{"none", nil, 7 * time.Second, ""},
		{"given", []string{"wait=5"}, 5 * time.Second, "wait=5"},
		{"not at all", []string{"wait=0"}, 0, "wait=0"},
		{"at the limit", []string{"wait=20"}, 20 * time.Second, "wait=20"},
		{"over the limit", []string{"wait=20.1"}, 20 * time.Second, "wait=20"},
		{"garbage", []string{"wait=soon"}, 7 * time.Second, ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			source := newFakeSource("github")
			a, _ := newAPI(t, Options{Source: source, Wait: 7 * time.Second, MaxWait: 20 * time.Second})
			exchange := post(wire.PathExchange, `{"service":"github"}`)
			rejected := post("/v1/credentials/github/rejected", `{"fingerprint":"x"}`)
			exchange.header["Prefer"], rejected.header["Prefer"] = c.prefer, c.prefer
			for _, call := range []call{
				{path: "/v1/credentials/github", header: http.Header{"Prefer": c.prefer}}, exchange, rejected,
			} {
				w := call.do(a)
				require.Equal(t, http.StatusOK, w.Code)
				require.Equal(t, c.applied, w.Header().Get("Preference-Applied"))
			}
			for _, r := range source.asked() {
				require.Equal(t, c.want, r.Wait)
			}
			require.Len(t, source.asked(), 3)
		})
	}
}

func TestNoCache(t *testing.T) {
	source := newFakeSource("github")
	miss := hit("github")
	miss.Hit, miss.Age = false, 0
	source.answers["github"] = miss
	a, _ := newAPI(t, Options{Source: source})
	w := call{path: "/v1/credentials/github", header: http.Header{"Cache-Control": {"no-cache"}}}.do(a)
	require.Equal(t, "grantexd; fwd=request; stored; ttl=3540", w.Header().Get("Cache-Status"))
	require.Equal(t, "0", w.Header().Get("Age"))
	w = call{path: "/v1/credentials/github"}.do(a)
	require.Equal(t, "grantexd; fwd=miss; stored; ttl=3540", w.Header().Get("Cache-Status"))
	require.True(t, source.asked()[0].NoCache)
	require.False(t, source.asked()[1].NoCache)
}

func TestRejected(t *testing.T) {
	source := newFakeSource("github")
	a, _ := newAPI(t, Options{Source: source})
	for _, fingerprint := range []string{"abc", `\"abc\"`} {
		w := post("/v1/credentials/github/rejected", `{"fingerprint":"`+fingerprint+`"}`).do(a)
		require.Equal(t, http.StatusOK, w.Code, w.Body.String())
		require.Contains(t, w.Body.String(), canary)
	}
	require.Equal(t, []string{"abc", "abc"}, source.rejected, "an ETag counts with and without its quotes")

	for body, message := range map[string]string{
		`{}`:                       "fingerprint is required",
		`{"fingerprint":""}`:       "fingerprint is required",
		`{"fingerprint":7}`:        "fingerprint must be a string",
		`{"fingerprint":"\"\""}`:   "fingerprint must be the ETag",
		`{"service":"github"}`:     "fingerprint is required",
		`{"Fingerprint":"github"}`: "fingerprint is required",
		`{"fingerprint":"` + strings.Repeat("x", maxFingerprintLength+1) + `"}`: "fingerprint must be the ETag",
	} {
		e := requireError(t, post("/v1/credentials/github/rejected", body).do(a), wire.CodeBadRequest)
		require.Contains(t, e.Message, message, body)
	}
	require.Len(t, source.rejected, 2)
}

// allCodes are the codes that a source can answer with.
var allCodes = []wire.Code{
	wire.CodeBadRequest, wire.CodeUnauthorized, wire.CodeForbidden, wire.CodePeerDenied, wire.CodeForbiddenOrigin,
	wire.CodeNoSuchRoute, wire.CodeNotFound, wire.CodeMethodNotAllowed, wire.CodePayloadTooLarge,
	wire.CodeUnsupportedMediaType, wire.CodeRateLimited, wire.CodeCredentialExpired, wire.CodeUpstreamError,
	wire.CodeGrantUnavailable, wire.CodeUpstreamTimeout,
}

func TestEveryRouteWithEveryCode(t *testing.T) {
	routes := []call{
		{path: "/v1/credentials/github"},
		{path: "/v1/credentials/github", header: http.Header{"Accept": {"text/plain"}}},
		{path: "/v1/credentials/github", method: http.MethodHead},
		post(wire.PathExchange, `{"service":"github"}`),
		post("/v1/credentials/github/rejected", `{"fingerprint":"x"}`),
		{path: wire.PathReady},
	}
	for _, route := range routes {
		for _, code := range allCodes {
			t.Run(route.path+" "+string(code), func(t *testing.T) {
				source := newFakeSource()
				sent := &wire.Error{
					Code: code, Message: "what & what to do <now>", RetryAfter: 17,
					UpstreamStatus: 503, UpstreamRequestID: "up-1",
				}
				source.fails["github"], source.ready = sent, sent
				a, log := newAPI(t, Options{Source: source})
				w := route.do(a)
				e := requireError(t, w, code)
				require.Equal(t, "17", w.Header().Get("Retry-After"))
				require.Empty(t, w.Header().Get("Cache-Status"), "nothing was served")
				require.Contains(t, log.String(), e.RequestID)
				e.RequestID = ""
				require.Equal(t, *sent, e, "the source's error is not changed")
			})
		}
	}
}

func TestErrorWithoutRetry(t *testing.T) {
	source := newFakeSource()
	a, _ := newAPI(t, Options{Source: source})
	w := call{path: "/v1/credentials/github"}.do(a)
	requireError(t, w, wire.CodeNotFound)
	require.NotContains(t, w.Header(), "Retry-After")
	require.NotContains(t, w.Body.String(), "retryAfter")
	require.NotContains(t, w.Body.String(), "upstreamStatus")
}

func TestUnknownErrorsAreInternal(t *testing.T) {
	cases := map[string]error{
		"unknown":         errors.New("disk on fire at 0x" + canary),
		"internal":        &wire.Error{Code: wire.CodeInternal, Message: "disk on fire at 0x" + canary},
		"a code unheard":  &wire.Error{Code: "TEAPOT", Message: "disk on fire at 0x" + canary},
		"wrapped context": context.Canceled,
	}
	for name, err := range cases {
		t.Run(name, func(t *testing.T) {
			source := newFakeSource()
			source.fails["github"] = err
			a, log := newAPI(t, Options{Source: source})
			w := call{path: "/v1/credentials/github"}.do(a)
			e := requireError(t, w, wire.CodeInternal)
			require.Equal(t, messageInternal, e.Message)
			requireNoCanary(t, w.Body.String())
			require.Contains(t, log.String(), "level=ERROR")
			require.Contains(t, log.String(), e.RequestID)
			require.Contains(t, log.String(), err.Error(), "the detail is in the log")
		})
	}
}

func TestAnswerWithoutACredentialIsInternal(t *testing.T) {
	source := newFakeSource()
	source.read = func(context.Context, Request) (Answer, error) { return Answer{}, nil }
	a, log := newAPI(t, Options{Source: source})
	requireError(t, call{path: "/v1/credentials/github"}.do(a), wire.CodeInternal)
	require.Contains(t, log.String(), errNoCredential.Error())
}

func TestPanicsAreInternal(t *testing.T) {
	var nothing *wire.Error
	cases := map[string]struct {
		panics func()
		logged string
	}{
		"a runtime error": {func() { _ = nothing.Code }, "nil pointer"},
		"a value":         {func() { panic("token " + canary) }, "panic with a string"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			source := newFakeSource()
			source.read = func(context.Context, Request) (Answer, error) { c.panics(); return Answer{}, nil }
			a, log := newAPI(t, Options{Source: source})
			w := call{path: "/v1/credentials/github", header: http.Header{"Prefer": {"wait=1"}}}.do(a)
			requireError(t, w, wire.CodeInternal)
			require.NotContains(t, w.Header(), "Preference-Applied")
			require.Contains(t, log.String(), c.logged)
			require.Contains(t, log.String(), "handler_test.go", "with the place")
			requireNoCanary(t, log.String()+w.Body.String())
		})
	}
}

func TestACallerThatLeavesIsNoBug(t *testing.T) {
	source := newFakeSource()
	ctx, cancel := context.WithCancel(context.Background())
	source.read = func(ctx context.Context, _ Request) (Answer, error) {
		cancel()
		<-ctx.Done()
		return Answer{}, ctx.Err()
	}
	a, log := newAPI(t, Options{Source: source})
	call{path: "/v1/credentials/github", ctx: ctx}.do(a)
	require.NotContains(t, log.String(), "level=ERROR")
}

func TestRoutesAndMethods(t *testing.T) {
	const get, post = "GET, HEAD", "POST"
	routes := map[string]string{
		wire.PathExchange: post, wire.PathCredentials: get, wire.PathStatus: get, wire.PathHealth: get,
		wire.PathReady: get, wire.PathMetrics: get, "/v1/credentials/github": get, "/v1/explain/github": get,
		"/v1/credentials/github/rejected": post, "/v1/credentials/rejected": get,
	}
	methods := []string{"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND", "get"}
	metrics := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "up 1\n") })
	for path, allow := range routes {
		for _, method := range methods {
			a, _ := newAPI(t, Options{Source: newFakeSource("github", "rejected"), Metrics: metrics})
			w := call{method: method, path: path}.do(a)
			if strings.Contains(", "+allow+",", ", "+method+",") {
				require.NotEqual(t, http.StatusMethodNotAllowed, w.Code, "%s %s", method, path)
				require.NotEqual(t, http.StatusNotFound, w.Code, "%s %s", method, path)
				continue
			}
			requireError(t, w, wire.CodeMethodNotAllowed)
			require.Equal(t, allow, w.Header().Get("Allow"), "%s %s", method, path)
		}
	}
}

func TestNoSuchRoute(t *testing.T) {
	a, _ := newAPI(t, Options{Source: newFakeSource("github")})
	for _, path := range []string{
		"/", "/v1", "/v1/", "/v2/status", "/V1/status", "/v1/status/", "/v1/explain", "/v1/credential/github",
		"/v1/vault/credentials", "/v1/vault/credentials/exchange/", "//v1/status", "/v1/../v1/status", "/healthz/",
		"/favicon.ico", "/metrics",
	} {
		requireError(t, call{path: path}.do(a), wire.CodeNoSuchRoute)
	}
	r := call{path: "/"}.request()
	r.URL.Path = "" // as of a CONNECT
	w := httptest.NewRecorder()
	a.Handler().ServeHTTP(w, r)
	requireError(t, w, wire.CodeNoSuchRoute)
}

func TestListShowsWhatTheCallerMayRead(t *testing.T) {
	source := newFakeSource("github", "slack")
	a, _ := newAPI(t, Options{Source: source, Access: rules(t, access.Rule{Users: []string{"1000"}, Services: []string{"git*"}})})
	for uid, want := range map[uint32][]string{1000: {"github"}, 1001: {}} {
		w := call{path: wire.PathCredentials, id: peer.As(uid, uid)}.do(a)
		require.Equal(t, http.StatusOK, w.Code)
		var list wire.CredentialList
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &list))
		got := []string{}
		for _, held := range list.Credentials {
			got = append(got, held.Service)
		}
		require.Equal(t, want, got)
		require.Contains(t, w.Body.String(), `"credentials":[`, "a list even if it is empty")
	}
	require.Len(t, source.held.Credentials, 2, "the source's list is not changed")
}

func rules(t testing.TB, r ...access.Rule) *access.Rules {
	t.Helper()
	compiled, err := access.Compile(r, nil)
	require.NoError(t, err)
	return compiled
}

func TestStatusAndHealth(t *testing.T) {
	source := newFakeSource()
	source.status = wire.Status{Version: "1.2.3", Warnings: []string{}}
	a, _ := newAPI(t, Options{Source: source})
	w := call{path: wire.PathStatus}.do(a)
	require.Equal(t, http.StatusOK, w.Code)
	var status wire.Status
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &status))
	require.Equal(t, source.status, status)
	for path, want := range map[string]string{wire.PathHealth: `{"status":"ok"}`, wire.PathReady: `{"status":"ready"}`} {
		w := call{path: path}.do(a)
		require.Equal(t, http.StatusOK, w.Code)
		require.JSONEq(t, want, w.Body.String())
	}
	source.status.UptimeSeconds = -1 / func() float64 { return 0 }()
	requireError(t, call{path: wire.PathStatus}.do(a), wire.CodeInternal)
}

func TestMetrics(t *testing.T) {
	metrics := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4")
		_, _ = io.WriteString(w, "up 1\n")
	})
	a, _ := newAPI(t, Options{Source: newFakeSource(), Metrics: metrics})
	w := call{path: wire.PathMetrics}.do(a)
	require.Equal(t, "up 1\n", w.Body.String())
	require.Equal(t, "text/plain; version=0.0.4", w.Header().Get("Content-Type"))
	require.Equal(t, "no-store", w.Header().Get("Cache-Control"))
}

func TestNewRefusesMistakes(t *testing.T) {
	for name, o := range map[string]Options{
		"no source":         {},
		"negative wait":     {Source: newFakeSource(), Wait: -1},
		"negative grace":    {Source: newFakeSource(), Grace: -1},
		"negative limit":    {Source: newFakeSource(), MaxConns: -1},
		"negative bodysize": {Source: newFakeSource(), MaxBodyBytes: -1},
	} {
		_, err := New(o)
		require.ErrorContains(t, err, "Options", name)
	}
	a, _ := newAPI(t, Options{Source: newFakeSource(), MaxWait: time.Second})
	require.Equal(t, time.Second, a.options.Wait, "the default wait is no longer than the longest")
}

func TestNothingOfTheTokenIsLogged(t *testing.T) {
	a, log := newAPI(t, Options{Source: newFakeSource("github")})
	for _, path := range []string{"/v1/credentials/github", "/v1/credentials", "/v1/explain/github", "/v1/credentials/none"} {
		c := call{path: path + "?token=" + canary, header: http.Header{"Authorization": {"Bearer " + canary}}}
		w := c.do(a)
		if !bytes.HasSuffix([]byte(path), []byte("/github")) {
			requireNoCanary(t, w.Body.String())
		}
	}
	requireNoCanary(t, log.String())
}

package socketapi

import (
	"context"
	"encoding/json"
	"sync"
	"sync/atomic"
	"time"

	"github.com/grantexd/grantexd/socketapi/wire"
	"github.com/grantexd/grantexd/upstream/secret"
)

const (
	// canary is the token of every credential in these tests. Where it must not
	// be, its first half must not be either.
	canary          = "gho_canary-7f3a9c51"
	testFingerprint = "k7Xq2mB9"
)

// testExpiry is the expiry of every credential in these tests.
var testExpiry = time.Date(2031, 4, 5, 6, 7, 8, 0, time.UTC)

func testCredential(service string) wire.Credential {
	return wire.Credential{
		AccessToken: secret.New(canary), Service: service, CredentialType: "oauth2",
		TokenExpiresAt: testExpiry, Metadata: json.RawMessage(`{"login":"octocat"}`),
	}
}

// hit is a held credential that is fresh.
func hit(service string) Answer {
	return Answer{
		Rendered: Render(testCredential(service), testFingerprint), Hit: true,
		Age: 60 * time.Second, TTL: 3540 * time.Second, Exchange: "x-1",
	}
}

// fakeSource answers with what its fields say and remembers what it was asked.
type fakeSource struct {
	mu       sync.Mutex // guards the rest
	answers  map[string]Answer
	fails    map[string]error
	read     func(context.Context, Request) (Answer, error) // instead of answers
	explain  func(service string) wire.Explanation          // instead of "held"
	requests []Request
	rejected []string
	held     wire.CredentialList
	status   wire.Status
	ready    error
}

func newFakeSource(services ...string) *fakeSource {
	f := &fakeSource{answers: map[string]Answer{}, fails: map[string]error{}}
	for _, s := range services {
		f.answers[s] = hit(s)
		f.held.Credentials = append(f.held.Credentials, wire.Held{Service: s, Fingerprint: testFingerprint})
	}
	return f
}

func (f *fakeSource) Credential(ctx context.Context, r Request) (Answer, error) {
	f.mu.Lock()
	f.requests = append(f.requests, r)
	read, answer, found, err := f.read, f.answers[r.Service], f.answers[r.Service].Rendered != nil, f.fails[r.Service]
	f.mu.Unlock()
	switch {
	case read != nil:
		return read(ctx, r)
	case err != nil:
		return Answer{}, err
	case !found:
		return Answer{}, &wire.Error{Code: wire.CodeNotFound, Message: "No credential found for this principal and service"}
	}
	return answer, nil
}

func (f *fakeSource) Rejected(ctx context.Context, r Request, fingerprint string) (Answer, error) {
	f.mu.Lock()
	f.rejected = append(f.rejected, fingerprint)
	f.mu.Unlock()
	return f.Credential(ctx, r)
}

func (f *fakeSource) Held() wire.CredentialList { return f.held }

func (f *fakeSource) Explain(service string) wire.Explanation {
	if f.explain != nil {
		return f.explain(service)
	}
	return wire.Explanation{Service: service, State: "held", Summary: []string{"held"}}
}

func (f *fakeSource) Status() wire.Status { return f.status }

func (f *fakeSource) Ready() error { return f.ready }

// asked returns the requests so far.
func (f *fakeSource) asked() []Request {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]Request(nil), f.requests...)
}

// heldSource answers every read with the same credential, as cheaply as can be.
type heldSource struct {
	fakeSource
	answer atomic.Pointer[Answer]
}

func (s *heldSource) Credential(context.Context, Request) (Answer, error) {
	return *s.answer.Load(), nil
}

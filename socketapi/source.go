package socketapi

import (
	"context"
	"time"

	"github.com/grantexd/grantexd/socketapi/wire"
)

// Source is what the API serves from. Its errors are *[wire.Error], with the
// code and message that the caller is to see; any other error is a bug of ours
// and becomes INTERNAL. The daemon implements it.
type Source interface {
	// Credential answers a read. It is called only for callers that the access
	// rules admit, and for well-formed service names.
	Credential(ctx context.Context, r Request) (Answer, error)
	// Rejected is told that the service refused the credential with the given
	// fingerprint, and answers with the one to use instead.
	Rejected(ctx context.Context, r Request, fingerprint string) (Answer, error)
	// Held lists what is held, without tokens, sorted by service.
	Held() wire.CredentialList
	// Explain says what a read of service would meet; the caller's part of it
	// (Allowed, Rule) is filled in by the API. Like Credential it is called only
	// for callers that the access rules admit.
	Explain(service string) wire.Explanation
	// Status describes the daemon.
	Status() wire.Status
	// Ready returns nil if the daemon can answer reads, else the reason.
	Ready() error
}

// Request is a read of one credential. It has nothing of net/http.
type Request struct {
	// Service is the service's name, exactly as the caller spelled it.
	Service string
	// Caller is the principal on whose account the read goes ("uid:1000").
	Caller string
	// Wait is how long the caller would wait for an answer.
	Wait time.Duration
	// NoCache asks for an exchange even if a credential is held.
	NoCache bool
}

// Answer is a credential to be handed out.
type Answer struct {
	// Rendered is the credential with its fixed headers.
	Rendered *Rendered
	// Hit says that no exchange was made or waited for.
	Hit bool
	// Age is the time since the vault last answered with it.
	Age time.Duration
	// TTL is how long it is fresh; negative for one that is served stale.
	TTL time.Duration
	// Unconfirmed is for how long the grant should have been confirmed and
	// could not be; 0 if it is confirmed as often as configured.
	Unconfirmed time.Duration
	// Exchange is the daemon's id of the exchange that the credential came
	// from, for the audit.
	Exchange string
}

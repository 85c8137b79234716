package socketapi

import (
	"context"
	"sync/atomic"

	"github.com/grantexd/grantexd/socketapi/access"
	"github.com/grantexd/grantexd/socketapi/audit"
	"github.com/grantexd/grantexd/socketapi/peer"
	"github.com/grantexd/grantexd/socketapi/wire"
)

// session is what one connection may do. It has nothing of net/http, so that
// whatever reads the connection passes the same gates.
type session struct {
	// id is who is on the other end, as it was when the connection was made.
	id        *peer.Identity
	principal string
	// record is the connection's audit record, nil if nothing is recorded.
	record *audit.Connection
	// door is what a request on the loopback address must show; nil on sockets.
	door *tcpDoor

	// answering is set while a request is being answered, and answered once
	// one was: a stop hangs up on connections between requests only.
	answering, answered atomic.Bool
}

func newSession(id *peer.Identity, log *audit.Log) *session {
	s := new(session)
	s.open(id, log)
	return s
}

// open begins the session once the caller is known. Nothing but the atomics may
// be used before.
func (s *session) open(id *peer.Identity, log *audit.Log) {
	s.id, s.principal = id, id.Principal()
	if log != nil {
		s.record = log.Connection(id)
	}
}

// close writes what the audit has still to count.
func (s *session) close() {
	if s.record != nil {
		s.record.Close()
	}
}

// denied records that the caller was refused service, "" if it did not come to
// say which.
func (s *session) denied(service string) {
	if s.record != nil {
		s.record.Denied(service)
	}
}

type sessionKey struct{}

// decide asks the access rules about the session's caller.
func (a *API) decide(s *session, service string) access.Decision {
	return a.rules.Load().Decide(s.id, service)
}

// admit refuses a caller that no rule allows service. The answer is the same
// whether the service exists or not, and does not say what the rules are.
func (a *API) admit(s *session, service string) error {
	if a.decide(s, service).Allowed {
		return nil
	}
	s.denied(service)
	return &wire.Error{Code: wire.CodePeerDenied, Message: denial(s.principal, service)}
}

// denial says that no rule allows principal service, to principal itself.
func denial(principal, service string) string {
	return principal + " may not read the credential of " + service +
		" here: no access rule allows it; whoever runs this daemon can add one"
}

// read is the gate that each credential passes on its way out: access first,
// then the source, then the audit.
func (a *API) read(ctx context.Context, s *session, r *Request) (Answer, error) {
	if err := a.admit(s, r.Service); err != nil {
		return Answer{}, err
	}
	r.Caller = s.principal
	answer, err := a.source.Credential(ctx, *r)
	if err != nil {
		return Answer{}, err
	}
	return answer, s.release(&answer)
}

// reject passes the same gates as read, for a credential in place of one that
// the service refused.
func (a *API) reject(ctx context.Context, s *session, r *Request, fingerprint string) (Answer, error) {
	if err := a.admit(s, r.Service); err != nil {
		return Answer{}, err
	}
	r.Caller = s.principal
	answer, err := a.source.Rejected(ctx, *r, fingerprint)
	if err != nil {
		return Answer{}, err
	}
	return answer, s.release(&answer)
}

// release records that the answer goes out. An error means that it must not.
func (s *session) release(answer *Answer) error {
	if answer.Rendered == nil {
		return errNoCredential
	}
	if s.record == nil {
		return nil
	}
	return s.record.Released(audit.Release{
		Service:     answer.Rendered.Service(),
		Fingerprint: answer.Rendered.Fingerprint(),
		Exchange:    answer.Exchange,
		Hit:         answer.Hit,
	})
}

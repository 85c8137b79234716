package daemon

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/grantexd/grantexd/daemon/broker"
	"github.com/grantexd/grantexd/daemon/grant"
	"github.com/grantexd/grantexd/socketapi"
	"github.com/grantexd/grantexd/socketapi/audit"
	"github.com/grantexd/grantexd/socketapi/wire"
	"github.com/grantexd/grantexd/upstream"
	"github.com/grantexd/grantexd/upstream/budget"
)

// source serves the socket's API from the broker and the budget. It translates;
// it decides nothing.
type source struct {
	broker *broker.Broker
	// watched returns the state of the grant file, with what is wrong with it.
	watched func() grant.Snapshot
	budget  *budget.Budget
	// file and url are what status calls the grant file and the vault.
	file, url string
	version   string
	started   time.Time
	// warnings are sentences of the start, for status.
	warnings []string
	audit    *audit.Log
}

var _ socketapi.Source = (*source)(nil)

// render makes what the API hands out, once for each credential that is cached.
func render(c *upstream.Credential, fingerprint string) any {
	return socketapi.Render(wire.Credential{
		AccessToken: c.AccessToken, Service: c.Service, CredentialType: c.CredentialType,
		TokenExpiresAt: c.TokenExpiresAt, Metadata: c.Metadata,
	}, fingerprint)
}

// Credential implements [socketapi.Source].
func (s *source) Credential(ctx context.Context, r socketapi.Request) (socketapi.Answer, error) {
	return s.toAnswer(s.broker.Get(ctx, broker.Request(r)))
}

// Rejected implements [socketapi.Source].
func (s *source) Rejected(ctx context.Context, r socketapi.Request, fingerprint string) (socketapi.Answer, error) {
	return s.toAnswer(s.broker.Rejected(ctx, broker.Request(r), fingerprint))
}

func (s *source) toAnswer(a broker.Answer, err error) (socketapi.Answer, error) {
	if err != nil {
		return socketapi.Answer{}, s.wireError(err)
	}
	rendered, _ := a.Rendered.(*socketapi.Rendered)
	return socketapi.Answer{
		Rendered: rendered, Hit: a.Hit, Age: a.Age, TTL: a.TTL, Unconfirmed: a.Unconfirmed, Exchange: a.Exchange,
	}, nil
}

// wireError translates a failure of the broker, and adds what is wrong with the
// grant file.
func (s *source) wireError(err error) error {
	out := wireError(err)
	var failure *broker.Error
	var e *wire.Error
	if errors.As(err, &failure) && errors.As(out, &e) {
		e.Message = s.message(failure)
	}
	return out
}

// message is the message of a failure of the broker. If there is no grant token,
// it says what is wrong with the grant file, which only the watcher knows: first,
// if there never was one, since the broker can't tell a file that is missing from
// one that holds garbage.
func (s *source) message(e *broker.Error) string {
	if e.Kind != broker.KindGrantUnavailable {
		return e.Message
	}
	switch snap := s.watched(); {
	case snap.Problem == "":
		return e.Message
	case snap.State == grant.Absent:
		return "there is no usable grant token: " + snap.Problem
	default:
		return e.Message + " (" + snap.Problem + ")"
	}
}

// problem is what is wrong with the grant file. That the last good token stays in
// use is not said of one that the vault rejected, of which the watcher doesn't
// know.
func (s *source) problem(trust broker.Trust) string {
	problem := s.watched().Problem
	if trust == broker.TrustRejected {
		problem = strings.Replace(problem, grant.LastGoodStays, "and the vault rejected the last good token", 1)
	}
	return problem
}

// Ready implements [socketapi.Source].
func (s *source) Ready() error {
	if err := s.broker.Ready(); err != nil {
		return s.wireError(err)
	}
	return nil
}

// Held implements [socketapi.Source].
func (s *source) Held() wire.CredentialList {
	list := wire.CredentialList{Credentials: []wire.Held{}}
	for _, h := range s.broker.Held() {
		list.Credentials = append(list.Credentials, toHeld(h))
	}
	return list
}

func toHeld(h broker.Held) wire.Held {
	out := wire.Held{
		Service: h.Service, CredentialType: h.CredentialType, Fingerprint: h.Fingerprint,
		AgeSeconds: h.Age.Seconds(), TTLSeconds: h.TTL.Seconds(), RotationStuck: h.RotationStuck,
		NextRefreshSeconds: secondsUnlessNegative(h.NextRefresh), LastReadSeconds: secondsUnlessNegative(h.LastRead),
	}
	if !h.ExpiresAt.IsZero() {
		out.TokenExpiresAt = &h.ExpiresAt
	}
	return out
}

func secondsUnlessNegative(d time.Duration) *float64 {
	if d < 0 {
		return nil
	}
	s := d.Seconds()
	return &s
}

// Explain implements [socketapi.Source].
func (s *source) Explain(service string) wire.Explanation {
	e := s.broker.Explain(service)
	out := wire.Explanation{
		Service: service, State: e.State, Summary: e.Summary, LastError: e.LastError,
		RetrySeconds: e.Retry.Seconds(), Budget: s.wireBudget(),
	}
	if e.Err != nil {
		message := s.message(e.Err)
		for i, line := range out.Summary {
			out.Summary[i] = strings.Replace(line, e.Err.Message, message, 1)
		}
	}
	if e.Held != nil {
		h := toHeld(*e.Held)
		out.Held = &h
	}
	return out
}

// Status implements [socketapi.Source].
func (s *source) Status() wire.Status {
	st := s.broker.Status()
	return wire.Status{
		Version: s.version, UptimeSeconds: time.Since(s.started).Seconds(), Ready: s.broker.Ready() == nil,
		Grant: s.wireGrant(st), Budget: s.wireBudget(), Upstream: s.wireUpstream(st),
		Cache: wire.Cache{
			Held: st.Held, Stale: st.Stale, RotationStuck: st.RotationStuck, Limit: st.MaxServices,
		},
		Warnings: s.warningsNow(st),
	}
}

// grantState puts together what the file offers and what the vault thinks of it.
func grantState(st broker.Status) string {
	switch st.Trust {
	case broker.TrustRejected:
		return "rejected"
	case broker.TrustSuspect:
		return "unconfirmed"
	}
	return st.GrantState.String()
}

func (s *source) wireGrant(st broker.Status) wire.Grant {
	g := wire.Grant{
		State: grantState(st), File: s.file, Problem: s.problem(st.Trust),
		ConfirmedSeconds: secondsUnlessNegative(st.Confirmed), NextProbeSeconds: secondsUnlessNegative(st.NextProbe),
	}
	c := st.Claims
	if c == nil {
		return g
	}
	g.Principal, g.Developer, g.Agent, g.GrantID, g.Scopes = c.Subject, c.Developer, c.Agent, c.GrantID, c.Scopes
	if !c.ExpiresAt.IsZero() {
		left := max(time.Until(c.ExpiresAt), 0).Seconds()
		g.ExpiresAt, g.RemainingSeconds = &c.ExpiresAt, &left
	}
	return g
}

func (s *source) wireUpstream(st broker.Status) wire.Upstream {
	u := wire.Upstream{
		URL: s.url, State: "ok", LastError: st.LastError, FailingSeconds: st.Failing.Seconds(),
		LastSuccessSeconds: secondsUnlessNegative(st.LastSuccess), Exchanges: st.Exchanges,
	}
	switch {
	case st.Limited > 0:
		u.State = "limited"
	case st.LastError != "":
		u.State = "failing"
	case st.LastSuccess < 0:
		u.State = "unknown"
	}
	if st.ClockKnown {
		offset := clockOffset(st).Round(time.Second).Seconds()
		u.ClockOffsetSeconds = &offset
	}
	return u
}

func (s *source) wireBudget() wire.Budget {
	b := s.budget.Status()
	return wire.Budget{
		Limit: b.Limit, WindowSeconds: b.Window.Seconds(), Used: b.Used, Free: b.Free, Waiting: b.Waiting,
		NextSlotSeconds: b.NextSlotIn.Seconds(), BlockedSeconds: b.BlockedFor.Seconds(), Others: b.Others > 0, Paced: b.Paced,
	}
}

// clockResolution is the least difference of clocks that can be told from none:
// the vault's Date is truncated to a second, and when within the exchange it was
// made is a guess.
const clockResolution = 2 * time.Second

// clockOffset is by how much the vault's clock is ahead of this host's, valid if
// st.ClockKnown.
func clockOffset(st broker.Status) time.Duration {
	if st.ClockOffset.Abs() < clockResolution {
		return 0
	}
	return st.ClockOffset
}

// clockTolerance is the difference of clocks above which somebody should look:
// the credentials' expiry margin is 5 s, and the vault's Date has a resolution of
// one second.
const clockTolerance = 5 * time.Second

func (s *source) warningsNow(st broker.Status) []string {
	out := append([]string{}, s.warnings...)
	said := ""
	if st.Err != nil {
		said = s.message(st.Err)
		out = append(out, said)
	}
	if problem := s.problem(st.Trust); !strings.Contains(said, problem) {
		out = append(out, "the grant file: "+problem)
	}
	if st.ClockKnown && st.ClockOffset.Abs() > clockTolerance {
		out = append(out, "this host's clock and the vault's differ by "+st.ClockOffset.Round(time.Second).String()+
			": set the one that is off")
	}
	if st.RotationStuck > 0 {
		out = append(out, "the vault still holds tokens that should have been renewed: store new ones (see rotationStuck in the list)")
	}
	if s.audit != nil {
		if err := s.audit.Err(); err != nil {
			out = append(out, "the audit log can't be written: "+err.Error())
		}
	}
	if paced := s.budget.Status().Paced; paced != "" {
		out = append(out, "the budget's ledger can't be used, so exchanges are spread out: "+paced)
	}
	return out
}

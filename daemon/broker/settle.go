package broker

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/grantexd/grantexd/upstream"
)

// settle books the outcome of a flight and tells its waiters.
func (b *Broker) settle(f *flight, cred *upstream.Credential, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	defer b.forget(f)
	f.stopTimer()
	now := b.clock.Boot()
	switch {
	case errors.Is(err, errStopped):
		b.deliverAll(f, result{err: errStopping})
	case f.forgotten:
		// Its waiters were told why already.
	case b.trust.suspect && !f.verdict, !b.gate.Load().alive(b.clocks()):
		// It comes while everything is withheld, or after the grant's end: its
		// waiters ask again, and get what holds now.
		b.deliverAll(f, result{again: true})
	case err == nil:
		b.settleCredential(f, cred, now)
	default:
		b.settleError(f, err, now)
	}
}

// accepted books that the vault took the token. b.mu is held.
func (b *Broker) accepted(f *flight, now time.Duration) {
	// It did so at some time since the departure; a revocation may have come
	// right after.
	b.confirmedAt.Store(int64(f.departedAt(now)))
	if slices.Contains(b.prefetch, f.service.name) {
		b.prefetched[f.service.name] = true
	}
	if f.verdict {
		b.clear()
	}
	b.succeeded(f.service, now)
}

// settleCredential books a 200. b.mu is held.
func (b *Broker) settleCredential(f *flight, cred *upstream.Credential, now time.Duration) {
	s := f.service
	s.known = true
	prev := s.held
	b.accepted(f, now)
	if !cred.TokenExpiresAt.IsZero() {
		if wall, vault := b.remaining(cred); min(wall, vault) <= b.tunables.ExpiryMargin {
			b.refuse(s, errCredentialExpired(cred, wall, vault, b.tunables.ExpiryMargin), b.tunables.RememberExpired, now)
			b.deliverAll(f, result{err: s.refusal.in(b.tunables.RememberExpired)})
			return
		}
	}
	s.refusal = nil
	h := b.newHeld(s, cred, now)
	b.put(s, h)
	b.judgeReports(f, prev, h, now)
	if h.stuck && (prev == nil || !prev.stuck) {
		b.log.Warn("the vault still holds the same token with the same expiry; store a new one before it expires",
			"service", s.name, "expires_at", cred.TokenExpiresAt)
	}
	for w := range f.waiters {
		b.deliver(w, result{answer: b.answer(h, b.gate.Load(), now, false)})
	}
}

// errCredentialExpired says since when a credential is expired, or whose clock
// is to be set if the vault's and ours disagree about it.
func errCredentialExpired(cred *upstream.Credential, wall, vault, margin time.Duration) *Error {
	at := cred.TokenExpiresAt.Format(time.RFC3339)
	msg := fmt.Sprintf("the vault holds a credential for %s that expired at %s: store a new one", cred.Service, at)
	switch {
	case (wall <= margin) != (vault <= margin) && (wall-vault).Abs() > margin:
		msg = fmt.Sprintf("the credential for %s expires at %s, which is past by one clock and not by the other: "+
			"this host's clock and the vault's differ by %s; set the one that is off",
			cred.Service, at, (vault - wall).Abs().Round(time.Second))
	case min(wall, vault) > 0:
		msg = fmt.Sprintf("the credential for %s expires at %s, in less than %s: store a new one", cred.Service, at, margin)
	}
	return &Error{Kind: KindExpired, Message: msg, UpstreamStatus: http.StatusOK, UpstreamRequestID: cred.RequestID}
}

// put caches h for s, evicting what was not read for longest if there is no
// room. b.mu is held.
func (b *Broker) put(s *service, h *held) {
	ttl := h.bootDeadline - b.clock.Boot()
	if ttl <= 0 {
		// go-cache takes such a TTL for "never expires".
		b.evict(s)
		return
	}
	if s.held == nil && b.creds.ItemCount() >= b.tunables.MaxServices {
		b.evictIdlest()
	}
	s.held = h
	b.creds.Set(s.name, h, ttl)
	b.cacheChanged()
}

func (b *Broker) evictIdlest() {
	var idlest *service
	for _, s := range b.services {
		if s.held != nil && (idlest == nil || s.held.lastRead.Load() < idlest.held.lastRead.Load()) {
			idlest = s
		}
	}
	if idlest != nil {
		b.evict(idlest)
	}
}

// refuse remembers that there is no credential for s. b.mu is held.
func (b *Broker) refuse(s *service, err *Error, remember, now time.Duration) {
	s.refusal, s.refusedUntil = err, now+remember
	if s.held != nil {
		b.evict(s)
		b.withhold() // a restart must not bring it back
	}
}

// settleError books an answer that is not a 200, or no answer. b.mu is held.
func (b *Broker) settleError(f *flight, err error, now time.Duration) {
	var e *upstream.Error
	isAnswer := errors.As(err, &e)
	switch {
	case isAnswer && e.GrantRejected():
		b.succeeded(f.service, now) // the vault works: it has an opinion
		b.reject()
		b.deliverAll(f, result{err: errRejected})
	case isAnswer && e.Status == http.StatusNotFound && e.Code != "":
		b.settleRefusal(f, now, b.tunables.RememberNotFound, &Error{Kind: KindNotFound, Message: fmt.Sprintf(
			"the vault stores no credential for %s (names are case-sensitive): store one, or check the name", f.service.name)}, e)
	case isAnswer && e.Status == http.StatusForbidden && e.Code != "":
		b.settleRefusal(f, now, b.tunables.RememberForbidden, &Error{Kind: KindForbidden, Message: fmt.Sprintf(
			"the grant's scopes don't cover %s: ask for a grant that does", f.service.name)}, e)
	case isAnswer && e.Status == http.StatusTooManyRequests:
		wait := b.limited(e.RetryAfter, now)
		b.undecided(f, wait, now)
		b.deliverAll(f, result{err: errRateLimited(wait)})
	default:
		b.settleFailure(f, err, now)
	}
}

// settleRefusal books a 404 or a 403 of the vault itself. b.mu is held.
func (b *Broker) settleRefusal(f *flight, now, remember time.Duration, err *Error, e *upstream.Error) {
	err.UpstreamStatus, err.UpstreamRequestID = e.Status, e.RequestID
	if f.unknownFor != nil {
		f.unknownFor.fruitless = append(f.unknownFor.fruitless, now+b.tunables.SlotReturn)
	}
	b.accepted(f, now)
	b.refuse(f.service, err, remember, now)
	b.deliverAll(f, result{err: err.in(remember)})
}

// settleFailure books that the vault failed. b.mu is held.
func (b *Broker) settleFailure(f *flight, err error, now time.Duration) {
	var noSlot *upstream.NoSlotError
	if errors.As(err, &noSlot) {
		b.undecided(f, noSlot.Wait, now)
		b.deliverAll(f, result{err: errRateLimited(noSlot.Wait)})
		return
	}
	failure := failureOf(err)
	if failure.Kind == KindInternal {
		b.log.Error("an exchange failed before it reached the vault", "service", f.service.name, "error", err)
	}
	wait := b.failed(f, failure, errors.Is(err, upstream.ErrConnect), now)
	b.undecided(f, wait, now)
	b.deliverAll(f, result{err: failure.in(wait)})
}

// failureOf puts a failure into words for callers, without anything that the
// vault sent but its status and request id.
func failureOf(err error) *Error {
	var e *upstream.Error
	var malformed *upstream.MalformedError
	switch {
	case errors.As(err, &e) && e.Status == http.StatusUnauthorized:
		return &Error{Kind: KindUpstream, UpstreamStatus: e.Status, UpstreamRequestID: e.RequestID, Message: fmt.Sprintf(
			"%s answered 401, but not about the grant token: wrong address or a proxy in between; check the upstream URL", e.URL)}
	case errors.As(err, &e) && e.Code == "":
		return &Error{Kind: KindUpstream, UpstreamStatus: e.Status, UpstreamRequestID: e.RequestID, Message: fmt.Sprintf(
			"%s answered %d, but not as the vault does: wrong address or a proxy in between; check the upstream URL", e.URL, e.Status)}
	case errors.As(err, &e):
		return &Error{Kind: KindUpstream, UpstreamStatus: e.Status, UpstreamRequestID: e.RequestID,
			Message: fmt.Sprintf("the vault failed: it answered %d; it will be asked again", e.Status)}
	case errors.As(err, &malformed):
		return &Error{Kind: KindUpstream, UpstreamStatus: http.StatusOK,
			Message: fmt.Sprintf("%s answered with something that is no credential: wrong address or a proxy in between?", malformed.URL)}
	case errors.Is(err, upstream.ErrTimeout), errors.Is(err, errFlight), errors.Is(err, context.DeadlineExceeded):
		return &Error{Kind: KindTimeout, Message: "the vault did not answer in time; it will be asked again"}
	case errors.Is(err, upstream.ErrConnect):
		return &Error{Kind: KindUpstream,
			Message: "the vault can't be reached: " + err.Error() + "; check the network and the upstream URL"}
	}
	return &Error{Kind: KindInternal, Message: "the exchange failed before it reached the vault: see grantexd's log"}
}

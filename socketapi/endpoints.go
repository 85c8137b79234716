package socketapi

import (
	"cmp"
	"net/http"
	"os"
	"strconv"
	"strings"

	"github.com/grantexd/grantexd/socketapi/access"
	"github.com/grantexd/grantexd/socketapi/peer"
	"github.com/grantexd/grantexd/socketapi/wire"
)

// serveNamed answers GET /v1/credentials/{service} where the fast path did not:
// a HEAD, or a name that is none.
func (a *API) serveNamed(w http.ResponseWriter, r *http.Request, s *session) error {
	name, err := pathName(r, credentialPrefix, "")
	if err != nil {
		return err
	}
	a.serveCredential(w, r, s, name)
	return nil
}

// serveExchange answers the vault's own call. The grant that is used is the
// daemon's: an Authorization header is not looked at, forwarded or logged.
func (a *API) serveExchange(w http.ResponseWriter, r *http.Request, s *session) error {
	body, err := a.readObject(w, r)
	if err != nil {
		return err
	}
	name, err := stringField(body, "service", messageServiceMissing, messageServiceString)
	if err != nil {
		return err
	}
	if !validName(name) {
		return badRequest(messageServiceName)
	}
	a.serveCredential(w, r, s, name)
	return nil
}

// maxFingerprintLength is far above the length of a fingerprint, which is an
// HMAC in some text form.
const maxFingerprintLength = 256

// serveRejected answers POST /v1/credentials/{service}/rejected.
func (a *API) serveRejected(w http.ResponseWriter, r *http.Request, s *session) error {
	name, err := pathName(r, credentialPrefix, rejectedSuffix)
	if err != nil {
		return err
	}
	body, err := a.readObject(w, r)
	if err != nil {
		return err
	}
	fingerprint, err := stringField(body, "fingerprint",
		"fingerprint is required: the ETag of the credential that the service refused",
		"fingerprint must be a string")
	if err != nil {
		return err
	}
	fingerprint = strings.Trim(fingerprint, `"`) // an ETag as it is
	if fingerprint == "" || len(fingerprint) > maxFingerprintLength {
		return badRequest("fingerprint must be the ETag of an answer of this daemon")
	}
	request := Request{Service: name, Wait: a.options.Wait}
	a.applyPreferences(w, r, &request)
	answer, err := a.reject(r.Context(), s, &request, fingerprint)
	if err != nil {
		return err
	}
	a.writeCredential(w, r, &answer, request.NoCache)
	return nil
}

// serveList answers GET /v1/credentials with what the caller may read.
func (a *API) serveList(w http.ResponseWriter, r *http.Request, s *session) error {
	all := a.source.Held()
	list := wire.CredentialList{Credentials: make([]wire.Held, 0, len(all.Credentials))}
	for _, held := range all.Credentials {
		if a.decide(s, held.Service).Allowed {
			list.Credentials = append(list.Credentials, held)
		}
	}
	a.writeJSON(w, r, list)
	return nil
}

// serveExplain answers GET /v1/explain/{service}, with ?as=uid:gid for another
// caller than the one that asks.
func (a *API) serveExplain(w http.ResponseWriter, r *http.Request, s *session) error {
	name, err := pathName(r, explainPrefix, "")
	if err != nil {
		return err
	}
	rules := a.rules.Load()
	who, verdicts := s.id, []access.Verdict(nil)
	as := r.URL.Query()["as"]
	if len(as) > 0 {
		if who, err = askedFor(s, as); err != nil {
			return err
		}
		verdicts = rules.Explain(who, name)
	}
	decision := rules.Decide(who, name)
	if !decision.Allowed && len(as) == 0 {
		// Nothing was asked for but words, but whoever tries names to see which
		// rules let it in is to be seen like one that tries to read.
		s.denied(name)
	}
	a.writeJSON(w, r, a.explanation(who, name, decision, verdicts))
	return nil
}

// explanation puts together what the rules and the source say. Of a service that
// the caller may not read the source is not even asked, so that nothing of it,
// nor the time that the answer takes, tells whether the service exists.
func (a *API) explanation(who *peer.Identity, name string, decision access.Decision, verdicts []access.Verdict) wire.Explanation {
	var e wire.Explanation
	if decision.Allowed {
		e = a.source.Explain(name)
	} else {
		e = wire.Explanation{
			Service: name, State: wire.StateDenied, Summary: []string{denial(who.Principal(), name)},
			Budget: a.source.Status().Budget, // which every caller may see there
		}
	}
	e.Allowed = decision.Allowed
	e.Rule = cmp.Or(decision.Rule, decision.Reason)
	lines := make([]string, 0, len(verdicts)+len(e.Summary))
	for _, v := range verdicts {
		lines = append(lines, "access rule "+strconv.Quote(v.Rule)+": "+v.Reason)
	}
	e.Summary = append(lines, e.Summary...)
	return e
}

// askedFor returns the caller that as=uid:gid stands for, if s may ask about
// others: root and the daemon's own user can read its configuration anyway.
func askedFor(s *session, as []string) (*peer.Identity, error) {
	if uid, known := s.id.UID.Get(); !known || uid != 0 && int(uid) != os.Geteuid() {
		return nil, &wire.Error{
			Code: wire.CodePeerDenied, Message: "only root and the daemon's own user may ask about other callers",
		}
	}
	uidText, gidText, _ := strings.Cut(as[0], ":")
	uid, errUID := strconv.ParseUint(uidText, 10, 32)
	gid, errGID := strconv.ParseUint(gidText, 10, 32)
	if len(as) != 1 || errUID != nil || errGID != nil {
		return nil, badRequest("as must be given once, as uid:gid in numbers, for example as=1000:1000")
	}
	return peer.As(uint32(uid), uint32(gid)), nil
}

// serveStatus answers GET /v1/status.
func (a *API) serveStatus(w http.ResponseWriter, r *http.Request, _ *session) error {
	a.writeJSON(w, r, a.source.Status())
	return nil
}

// health is the body of the two health calls.
type health struct {
	Status string `json:"status"`
}

// serveHealth answers GET /healthz: whoever reads the answer knows that the
// process is alive.
func (a *API) serveHealth(w http.ResponseWriter, r *http.Request, _ *session) error {
	a.writeJSON(w, r, health{Status: "ok"})
	return nil
}

// serveReady answers GET /readyz, with the reason while the daemon is not ready.
func (a *API) serveReady(w http.ResponseWriter, r *http.Request, _ *session) error {
	if err := a.source.Ready(); err != nil {
		return err
	}
	a.writeJSON(w, r, health{Status: "ready"})
	return nil
}

// serveMetrics answers GET /metrics.
func (a *API) serveMetrics(w http.ResponseWriter, r *http.Request, _ *session) error {
	h := w.Header()
	h["Cache-Control"] = headerNoStore
	h["X-Content-Type-Options"] = headerNoSniff
	a.options.Metrics.ServeHTTP(w, r)
	return nil
}

package socketapi

import (
	"fmt"
	"net/http"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"github.com/grantexd/grantexd/socketapi/peer"
	"github.com/grantexd/grantexd/socketapi/wire"
)

const (
	credentialPrefix = wire.PathCredentials + "/"
	explainPrefix    = wire.PathExplain + "/"
	rejectedSuffix   = "/rejected"
)

// serveHTTP answers one request: guards, then the hot read, then the rest.
func (a *API) serveHTTP(w http.ResponseWriter, r *http.Request) {
	s, _ := r.Context().Value(sessionKey{}).(*session)
	if s == nil {
		s = newSession(new(peer.Identity), a.options.Audit)
		defer s.close()
	}
	s.answering.Store(true)
	defer a.finish(w, r, s)
	if a.draining.Load() {
		var done func()
		r, done = outlive(r)
		defer done()
	}

	if r.ContentLength != 0 {
		a.limitBodyTime(w)
	}
	if err := guard(s, r); err != nil {
		if s.door != nil {
			// All of the loopback address is one account: who has no token must
			// not keep connections of it.
			w.Header().Set("Connection", "close")
		}
		s.denied("")
		a.fail(w, r, err)
		return
	}
	// The one route that must be fast is found without a table.
	if path := r.URL.Path; r.Method == http.MethodGet && len(path) > len(credentialPrefix) &&
		path[:len(credentialPrefix)] == credentialPrefix && r.URL.RawPath == "" {
		if name := path[len(credentialPrefix):]; validName(name) {
			a.serveCredential(w, r, s, name)
			return
		}
	}
	a.serveRoute(w, r, s)
}

// finish ends the answer to a request, a panicking one with INTERNAL.
func (a *API) finish(w http.ResponseWriter, r *http.Request, s *session) {
	// Deferred itself, as recover demands.
	if p := recover(); p != nil {
		clear(w.Header())
		a.fail(w, r, panicError(p))
	}
	s.answered.Store(true)
	s.answering.Store(false)
}

// panicError describes a panic for the log. Only what the runtime says is quoted,
// since any other value could hold a secret.
func panicError(p any) error {
	if err, ok := p.(runtime.Error); ok {
		return fmt.Errorf("panic: %w\n%s", err, debug.Stack())
	}
	return fmt.Errorf("panic with a %T\n%s", p, debug.Stack())
}

// limitBodyTime bounds how long the body may take to arrive, whether a handler
// reads it or net/http discards it. Without a body there is no limit to set, and
// a read deadline would end the wait for a slow answer.
func (a *API) limitBodyTime(w http.ResponseWriter) {
	// An http.ResponseWriter without deadlines is one of a test.
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(a.options.ReadTimeout))
}

func endBodyTime(w http.ResponseWriter) {
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{})
}

// serveCredential answers GET /v1/credentials/{service}.
func (a *API) serveCredential(w http.ResponseWriter, r *http.Request, s *session, name string) {
	request := Request{Service: name, Wait: a.options.Wait}
	a.applyPreferences(w, r, &request)
	answer, err := a.read(r.Context(), s, &request)
	if err != nil {
		a.fail(w, r, err)
		return
	}
	a.writeCredential(w, r, &answer, request.NoCache)
}

// applyPreferences reads how long the caller would wait and whether it wants a
// fresh credential.
func (a *API) applyPreferences(w http.ResponseWriter, r *http.Request, request *Request) {
	if lines := r.Header["Prefer"]; lines != nil {
		if wait, ok := preferredWait(lines); ok {
			request.Wait = min(wait, a.options.MaxWait)
			w.Header()["Preference-Applied"] = appliedWait(request.Wait)
		}
	}
	if lines := r.Header["Cache-Control"]; lines != nil {
		request.NoCache = wantsNoCache(lines)
	}
}

// writeCredential writes a credential that has passed the gate. If-None-Match is
// not looked at: the ETag stands for the token alone, and a 304 would hide that
// its expiry or its metadata changed.
func (a *API) writeCredential(w http.ResponseWriter, r *http.Request, answer *Answer, noCache bool) {
	p := answer.Rendered.payload()
	form := &p.json
	if lines := r.Header["Accept"]; lines != nil && wantsText(lines) {
		form = &p.text
	}
	var fresh *freshness
	if answer.Hit {
		fresh = p.freshnessOf(answer)
	} else {
		fresh = missFreshness(answer, noCache)
	}
	// Keys in canonical form, values shared: no allocation but the map's own.
	h := w.Header()
	h["Content-Type"] = form.contentType
	h["Content-Length"] = form.contentLength
	h["Cache-Control"] = headerNoStore
	h["X-Content-Type-Options"] = headerNoSniff
	h["Cache-Status"] = fresh.cacheStatus
	h["Age"] = fresh.ageValue
	if p.etag != nil {
		h["Etag"] = p.etag
	}
	if p.expires != nil {
		h["Expires"] = p.expires
	}
	if a.draining.Load() {
		h["Connection"] = headerClose
	}
	_, _ = w.Write(form.body) // a caller that is gone needs no answer
}

// pathName returns the service name that ends the path after prefix, still
// unchecked if it was written with escapes: no valid name needs any.
func pathName(r *http.Request, prefix, suffix string) (string, error) {
	name := strings.TrimSuffix(strings.TrimPrefix(r.URL.Path, prefix), suffix)
	if name == "" {
		return "", badRequest(messageServiceMissing)
	}
	if r.URL.RawPath != "" || !validName(name) {
		return "", badRequest(messageServiceName)
	}
	return name, nil
}

package socketapi

import (
	"net/http"
	"strings"

	"github.com/grantexd/grantexd/socketapi/wire"
)

// Values of the Allow header.
const (
	allowGet  = "GET, HEAD"
	allowPost = "POST"
)

// endpoint answers one route for a caller.
type endpoint func(w http.ResponseWriter, r *http.Request, s *session) error

// serveRoute answers all but the hot read.
func (a *API) serveRoute(w http.ResponseWriter, r *http.Request, s *session) {
	serve, allow := a.routeOf(r.URL.Path)
	if serve == nil {
		a.fail(w, r, &wire.Error{
			Code: wire.CodeNoSuchRoute,
			Message: "grantexd has no such route; among those it has are GET " + credentialPrefix +
				"{service}, POST " + wire.PathExchange + " and GET " + wire.PathStatus,
		})
		return
	}
	if !methodAllowed(r.Method, allow) {
		w.Header()["Allow"] = []string{allow}
		a.fail(w, r, &wire.Error{
			Code: wire.CodeMethodNotAllowed, Message: "this route takes only " + allow,
		})
		return
	}
	if err := serve(w, r, s); err != nil {
		a.fail(w, r, err)
	}
}

func methodAllowed(method, allow string) bool {
	if allow == allowGet {
		return method == http.MethodGet || method == http.MethodHead
	}
	return method == allow
}

// routeOf returns what answers path and the methods that it takes.
func (a *API) routeOf(path string) (serve endpoint, allow string) {
	switch path {
	case wire.PathExchange:
		return a.serveExchange, allowPost
	case wire.PathCredentials:
		return a.serveList, allowGet
	case wire.PathStatus:
		return a.serveStatus, allowGet
	case wire.PathHealth:
		return a.serveHealth, allowGet
	case wire.PathReady:
		return a.serveReady, allowGet
	case wire.PathMetrics:
		if a.options.Metrics != nil {
			return a.serveMetrics, allowGet
		}
	}
	switch {
	case strings.HasPrefix(path, credentialPrefix):
		if strings.HasSuffix(path[len(credentialPrefix)-1:], rejectedSuffix) && path != credentialPrefix+rejectedSuffix[1:] {
			return a.serveRejected, allowPost
		}
		return a.serveNamed, allowGet
	case strings.HasPrefix(path, explainPrefix):
		return a.serveExplain, allowGet
	}
	return nil, ""
}

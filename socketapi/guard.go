package socketapi

import (
	"net/http"
	"strings"

	"github.com/grantexd/grantexd/socketapi/wire"
)

// guard refuses what a browser sends, on every route and before anything else is
// looked at: a page that finds a way to a socket or to the loopback address (a
// proxy, a rebound name) has no business here. On the loopback address it also
// demands the local token.
func guard(s *session, r *http.Request) error {
	if len(r.Header["Origin"]) > 0 || len(r.Header["Referer"]) > 0 {
		return &wire.Error{
			Code:    wire.CodeForbiddenOrigin,
			Message: "grantexd does not answer browsers: send no Origin and no Referer",
		}
	}
	if s.door != nil {
		return s.door.check(r)
	}
	if !localHost(r.Host) {
		return &wire.Error{
			Code:    wire.CodeForbiddenOrigin,
			Message: "the Host of a request on this socket must be localhost or grantexd, without a port",
		}
	}
	return nil
}

// localHost reports whether host is one of the two names that the socket answers
// to. A port is refused too: none belongs to a socket, and a page behind a proxy
// on localhost would bring that of the proxy.
func localHost(host string) bool {
	return host == "localhost" || host == "grantexd" ||
		strings.EqualFold(host, "localhost") || strings.EqualFold(host, "grantexd")
}

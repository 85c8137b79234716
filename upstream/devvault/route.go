package devvault

import (
	"context"
	"net/http"
	"strings"
	"time"
)

// Paths of the vault's API.
const (
	pathCredentials = "/v1/vault/credentials"
	pathExchange    = "/v1/vault/credentials/exchange"
	pathKeySet      = "/.well-known/jwks.json"
	pathHealth      = "/health"
)

// route is what a method and a path lead to.
type route struct {
	group  string   // which faults it has: OnExchange …
	counts *limiter // the limit that comes before anything else; nil: none
	handle func(*call) answer
}

// call is one request on its way through the vault.
type call struct {
	route
	r *http.Request
	// id is the credential that the path names.
	id      string
	body    requestBody
	badBody *answer // nil: the body is fine
	// service is the name in the body if it is one, for faults and the log.
	service string
	// record is the exchange's line in the log; nil for other calls.
	record *Exchange
}

// serveVault is the way of every request: headers, body, faults, the rate limit,
// and only then what the call is about.
func (s *Server) serveVault(w http.ResponseWriter, r *http.Request) {
	if headerBytes(r) > maxHeaderBytes {
		s.deliver(w, r, headerTooLarge(), mishap{})
		return
	}
	c, err := s.receive(r)
	if err != nil {
		return // the caller left in the middle of its body
	}
	m := s.faults.take(c.group, c.service)
	a, ok := s.answer(c, m)
	if !ok {
		return // nobody is left to hear it
	}
	if c.record != nil && !m.reset {
		// Before it is delivered, so that whoever got an answer finds it
		// in the log.
		s.seen.answered(c.record, a.status)
	}
	s.log.Debug("call answered", "method", r.Method, "call", c.group, "service", c.service, "status", a.status)
	s.deliver(w, r, a, m)
}

// receive reads the request and finds its route.
func (s *Server) receive(r *http.Request) (*call, error) {
	c := &call{r: r}
	c.route, c.id = s.route(r.Method, r.URL.Path)
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		// The body is read before anything else, although it is judged
		// later: net/http notices a caller that leaves only after it.
		raw, err := readBody(r)
		if err != nil {
			return nil, err
		}
		c.body, c.badBody = parseBody(raw)
	}
	if c.group == OnExchange {
		if name, ok := c.body.text("service"); ok && serviceName.MatchString(name) {
			c.service = name
		}
		var claims Claims
		if token, ok := bearer(r); ok {
			claims, _ = s.verify(token)
		}
		c.record = s.seen.arrived(claims.GrantID, c.service, time.Now())
	}
	return c, nil
}

// route finds what a request is for. Paths are compared as they are: one slash
// too many leads nowhere.
func (s *Server) route(method, path string) (route, string) {
	if method == http.MethodHead {
		method = http.MethodGet // net/http leaves out the body
	}
	switch method + " " + path {
	case "POST " + pathExchange:
		return route{OnExchange, s.limits.exchange, s.exchange}, ""
	case "POST " + pathCredentials:
		return route{OnDeveloper, s.limits.store, s.asDeveloper(s.storeCredential)}, ""
	case "GET " + pathCredentials:
		return route{OnDeveloper, s.limits.general, s.asDeveloper(s.listCredentials)}, ""
	case "GET " + pathKeySet:
		return route{"", nil, func(*call) answer { return s.keys.keySet() }}, ""
	case "GET " + pathHealth:
		return route{OnHealth, s.limits.general, func(*call) answer { return healthAnswer(http.StatusOK) }}, ""
	}
	id, under := strings.CutPrefix(path, pathCredentials+"/")
	if under && id != "" && !strings.Contains(id, "/") {
		switch method {
		case http.MethodGet:
			return route{OnDeveloper, s.limits.general, s.asDeveloper(s.getCredential)}, id
		case http.MethodDelete:
			return route{OnDeveloper, s.limits.remove, s.asDeveloper(s.deleteCredential)}, id
		}
	}
	return route{"", nil, s.wrongPath}, ""
}

// answer carries the call out. It returns false if nobody waits for the answer
// any more.
func (s *Server) answer(c *call, m mishap) (answer, bool) {
	ctx := c.r.Context()
	// What is counted late is counted even if the caller has left: that is
	// what makes a stalled vault dangerous to a client's own count.
	if !s.waitAll(context.WithoutCancel(ctx), m.late) {
		return answer{}, false
	}
	q := s.count(c)
	if ctx.Err() != nil || !s.waitAll(ctx, m.delays) {
		return answer{}, false
	}
	var a answer
	switch {
	case q != nil && q.exceeded:
		a = tooManyRequests(*q)
	case m.replacement != nil:
		return m.replacement.answer(c.group, q), true
	case c.badBody != nil:
		a = *c.badBody
	default:
		a = c.handle(c)
	}
	if a.quota == nil {
		a.quota = q
	}
	return a, true
}

// count counts the call against the limit that its route has by address.
func (s *Server) count(c *call) *quota {
	now := time.Now()
	if c.record != nil {
		s.seen.counted(c.record, now)
	}
	if c.counts == nil {
		return nil
	}
	key := clientAddress(c.r)
	if c.group == OnExchange {
		key = s.limits.exchangeKey(c.r)
	}
	q := c.counts.count(key, now)
	return &q
}

// wrongPath answers all that leads nowhere. The vault looks at the API key
// first, so a wrong base URL looks like a wrong key.
func (s *Server) wrongPath(c *call) answer {
	if refused := s.checkAPIKey(c.r); refused != nil {
		return *refused
	}
	return noSuchRoute(c.r.Method, c.r.URL.RequestURI())
}

// healthAnswer tells with its status whether the vault's dependencies work.
func healthAnswer(status int) answer {
	health := struct {
		Status   string `json:"status"`
		Database string `json:"database"`
		Redis    string `json:"redis"`
	}{"healthy", "ok", "ok"}
	if status != http.StatusOK {
		health.Status, health.Database = "degraded", "error"
	}
	return jsonAnswer(status, health)
}

package socketapi

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/grantexd/grantexd/socketapi/access"
	"github.com/grantexd/grantexd/socketapi/peer"
	"github.com/grantexd/grantexd/socketapi/wire"
)

// forService are the calls that concern one service.
func forService(name string) []call {
	return []call{
		{path: "/v1/credentials/" + name},
		{path: "/v1/credentials/" + name, method: http.MethodHead},
		{path: "/v1/explain/" + name},
		post(wire.PathExchange, `{"service":"`+name+`"}`),
		post("/v1/credentials/"+name+"/rejected", `{"fingerprint":"x"}`),
	}
}

func TestEveryCallerAtEveryCallForAService(t *testing.T) {
	only := rules(t, access.Rule{Name: "agents", Users: []string{"1000"}, Services: []string{"github"}})
	byGroup := rules(t, access.Rule{Name: "team", Groups: []string{"500"}, Services: []string{"*"}})
	tcp := rules(t, access.Rule{Name: "sdk", Principals: []string{"tcp"}, Services: []string{"github"}})
	nobody, err := access.Compile([]access.Rule{}, nil)
	require.NoError(t, err)
	cases := []struct {
		name  string
		rules *access.Rules
		id    *peer.Identity
		want  bool
	}{
		{"no rules", nil, peer.As(1000, 1000), true},
		{"no rules, unknown caller", nil, nil, true},
		{"no rules, tcp", nil, peer.TCP(), true},
		{"no rules, internal", nil, peer.Internal(), false},
		{"an empty list of rules", nobody, peer.As(1000, 1000), false},
		{"the user", only, peer.As(1000, 1000), true},
		{"another user", only, peer.As(1001, 1000), false},
		{"root", only, peer.As(0, 0), false},
		{"unknown caller", only, nil, false},
		{"tcp", only, peer.TCP(), false},
		{"the group", byGroup, peer.As(1000, 500), true},
		{"another group", byGroup, peer.As(500, 1000), false},
		{"tcp where it is named", tcp, peer.TCP(), true},
		{"a user where tcp is named", tcp, peer.As(0, 0), false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			source := newFakeSource("github")
			a, _ := newAPI(t, Options{Source: source, Access: c.rules})
			for _, call := range forService("github") {
				call.id = c.id
				w := call.do(a)
				if c.want {
					require.Equal(t, http.StatusOK, w.Code, "%s %s", call.method, call.path)
					continue
				}
				if strings.HasPrefix(call.path, explainPrefix) {
					require.False(t, explanationOf(t, call.do(a)).Allowed)
					continue
				}
				e := requireError(t, w, wire.CodePeerDenied)
				require.NotContains(t, e.Message, "agents", "a denied caller does not learn the rules")
				require.Zero(t, e.RetryAfter)
			}
			if !c.want {
				require.Empty(t, source.asked(), "a denied caller costs no departure")
			}
		})
	}
}

func TestDenialDoesNotTellWhatExists(t *testing.T) {
	a, _ := newAPI(t, Options{
		Source: newFakeSource("exists"),
		Access: rules(t, access.Rule{Users: []string{"1000"}, Services: []string{"other"}}),
	})
	held, missing := forService("exists"), forService("absent")
	for i := range held {
		answers := make([]string, 0, 2)
		for _, c := range []call{held[i], missing[i]} {
			c.id = peer.As(1001, 1001)
			w := c.do(a)
			text := w.Body.String()
			if !strings.HasPrefix(c.path, explainPrefix) {
				text = strings.ReplaceAll(text, requireError(t, w, wire.CodePeerDenied).RequestID, "")
			}
			answers = append(answers, strings.ReplaceAll(strings.ReplaceAll(text, "exists", "S"), "absent", "S"))
		}
		require.Equal(t, answers[0], answers[1])
	}
}

func TestRulesAreSwappedWhileRunning(t *testing.T) {
	a, _ := newAPI(t, Options{Source: newFakeSource("github")})
	s := newSession(peer.As(1000, 1000), nil) // one connection
	status := func() int {
		c := call{path: "/v1/credentials/github"}
		r := c.request()
		r = r.WithContext(context.WithValue(r.Context(), sessionKey{}, s))
		w := httptest.NewRecorder()
		a.Handler().ServeHTTP(w, r)
		return w.Code
	}
	require.Equal(t, http.StatusOK, status())
	a.SetAccess(rules(t, access.Rule{Users: []string{"1001"}, Services: []string{"*"}}))
	require.Equal(t, http.StatusForbidden, status())
	a.SetAccess(nil)
	require.Equal(t, http.StatusOK, status())
}

func explanationOf(t *testing.T, w *httptest.ResponseRecorder) wire.Explanation {
	t.Helper()
	require.Equal(t, http.StatusOK, w.Code, w.Body.String())
	var e wire.Explanation
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &e))
	return e
}

func TestExplain(t *testing.T) {
	source := newFakeSource("github")
	a, _ := newAPI(t, Options{Source: source})
	e := explanationOf(t, call{path: "/v1/explain/github"}.do(a))
	require.True(t, e.Allowed)
	require.Contains(t, e.Rule, "no access rules")
	require.Equal(t, "held", e.State)

	a.SetAccess(rules(t, access.Rule{Name: "agents", Users: []string{"1000"}, Services: []string{"github"}}))
	e = explanationOf(t, call{path: "/v1/explain/github", id: peer.As(1000, 1000)}.do(a))
	require.True(t, e.Allowed)
	require.Equal(t, "agents", e.Rule)
	require.Equal(t, []string{"held"}, e.Summary, "the rules are not shown to whom they allow")
}

// TestExplainDenied has a source that would tell everything, of a service that
// the caller may not read.
func TestExplainDenied(t *testing.T) {
	only := access.Rule{Name: "agents", Users: []string{"1000"}, Services: []string{"github"}}
	nobody, err := access.Compile([]access.Rule{}, nil)
	require.NoError(t, err)
	const sentence = " may not read the credential of github here: no access rule allows it; whoever runs this daemon can add one"
	verdict := `access rule "agents": the caller's user: 1001; it is for 1000`
	for _, c := range []struct {
		name, query, rule string
		rules             *access.Rules
		id                *peer.Identity
		summary           []string
	}{
		{"another user", "", "no access rule allows it", rules(t, only), peer.As(1001, 1001), []string{"uid:1001" + sentence}},
		{"an empty list of rules", "", "no access rule allows it", nobody, peer.As(1000, 1000), []string{"uid:1000" + sentence}},
		{"tcp", "", "no access rule allows it", rules(t, only), peer.TCP(), []string{"tcp" + sentence}},
		{"root about another user", "?as=1001:1001", "no access rule allows it", rules(t, only), peer.As(0, 0), []string{verdict, "uid:1001" + sentence}},
		{"root about others, without rules", "?as=1000:1000", "no access rule allows it", nobody, peer.As(0, 0), []string{"uid:1000" + sentence}},
	} {
		t.Run(c.name, func(t *testing.T) {
			source := newFakeSource("github")
			source.status.Budget = wire.Budget{Limit: 20, Free: 7}
			source.explain = func(string) wire.Explanation {
				return wire.Explanation{
					Service: "github", State: "held", Summary: []string{"canary"}, Held: &wire.Held{Service: "github"},
					LastError: "canary", RetrySeconds: 7,
				}
			}
			a, _ := newAPI(t, Options{Source: source, Access: c.rules})
			w := call{path: "/v1/explain/github" + c.query, id: c.id}.do(a)
			require.Equal(t, wire.Explanation{
				Service: "github", Rule: c.rule, State: "denied", Summary: c.summary, Budget: source.status.Budget,
			}, explanationOf(t, w))
			require.NotContains(t, w.Body.String(), "held")
			require.NotContains(t, w.Body.String(), "lastError")
			require.Empty(t, source.asked())
		})
	}
}

func TestExplainAs(t *testing.T) {
	source := newFakeSource("github")
	a, _ := newAPI(t, Options{
		Source: source,
		Access: rules(t, access.Rule{Name: "agents", Users: []string{"1000"}, Services: []string{"github"}}),
	})
	self := uint32(os.Geteuid())
	ask := func(id *peer.Identity, as string) *httptest.ResponseRecorder {
		return call{path: "/v1/explain/github?as=" + as, id: id}.do(a)
	}
	for name, id := range map[string]*peer.Identity{"root": peer.As(0, 0), "the daemon's user": peer.As(self, 7)} {
		e := explanationOf(t, ask(id, "1000:1000"))
		require.True(t, e.Allowed, name)
		require.Equal(t, "agents", e.Rule, name)
		e = explanationOf(t, ask(id, "1001:1000"))
		require.False(t, e.Allowed, name)
		require.Contains(t, e.Rule, "no access rule", name)
		require.Contains(t, e.Summary[0], `access rule "agents"`, name)
	}
	for name, id := range map[string]*peer.Identity{
		"the allowed user": peer.As(1000, 1000), "tcp": peer.TCP(), "unknown": nil, "internal": peer.Internal(),
	} {
		require.Equal(t, http.StatusForbidden, ask(id, "1000:1000").Code, name)
		requireError(t, ask(id, "nonsense"), wire.CodePeerDenied)
	}
	for _, as := range []string{"", "1000", "1000:", ":1000", "-1:0", "a:b", "1000:1000:1", "4294967296:0", "1000:1000&as=1:1"} {
		e := requireError(t, ask(peer.As(0, 0), as), wire.CodeBadRequest)
		require.Contains(t, e.Message, "uid:gid", as)
	}
}

package access

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/grantexd/grantexd/socketapi/peer"
)

// Rules that many cases use.
var (
	all     = list("*")
	byUser  = Rule{Users: list("alice", "1001"), Services: all}
	byGroup = Rule{Groups: list("staff", "60"), Services: all}
	byUnit  = Rule{Units: list("backup@*.service", "sync.service"), Services: all}
	byAll   = Rule{Users: list("alice"), Groups: list("staff"), Units: list("sync.service"), Services: list("github")}
	tcp     = Rule{Principals: list("tcp"), Services: all}
	anyone  = Rule{Anyone: true, Services: list("mirror")}
)

// without returns a caller in staff and agents of whom one fact is not known.
func without(forget func(id *peer.Identity)) *peer.Identity {
	id := caller(1000, 50, 60)
	forget(id)
	return id
}

var (
	noUID    = without(func(id *peer.Identity) { id.UID = peer.Unknown[uint32]("x") })
	noGID    = without(func(id *peer.Identity) { id.GID = peer.Unknown[uint32]("x") })
	noGroups = without(func(id *peer.Identity) { id.Groups = peer.Unknown[[]uint32]("x") })
)

// question is a read that rules allow or not.
type question struct {
	name    string
	rules   []Rule
	id      *peer.Identity
	service string
	allowed bool
}

func decideAll(t *testing.T, questions []question) {
	t.Helper()
	for _, c := range questions {
		t.Run(c.name, func(t *testing.T) {
			r, err := Compile(c.rules, accounts{})
			require.NoError(t, err)
			d := r.Decide(c.id, c.service)
			require.Equal(t, c.allowed, d.Allowed, d.Reason)
			require.NotEmpty(t, d.Reason)
			if !d.Allowed || c.rules == nil {
				require.Empty(t, d.Rule)
			}
			agree(t, r, d, c.id, c.service)
		})
	}
}

func TestDecideUsers(t *testing.T) {
	decideAll(t, []question{
		{"user by name", []Rule{byUser}, caller(1000, 9), "github", true},
		{"user by number", []Rule{byUser}, caller(1001, 9), "github", true},
		{"another user", []Rule{byUser}, caller(1002, 9), "github", false},
		{"the user's number as a group", []Rule{byUser}, caller(9, 1000, 1000), "github", false},
		{"root is not special", []Rule{byUser}, caller(0, 0), "github", false},
		{"unknown user", []Rule{byUser}, noUID, "github", false},
		{"known user in unknown groups", []Rule{byUser}, noGroups, "github", true},
	})
}

func TestDecideGroups(t *testing.T) {
	decideAll(t, []question{
		{"group by name", []Rule{byGroup}, caller(9, 50), "github", true},
		{"supplementary group by number", []Rule{byGroup}, caller(9, 9, 8, 60), "github", true},
		{"another group", []Rule{byGroup}, caller(50, 9, 8), "github", false},
		{"no groups", []Rule{byGroup}, caller(50, 9), "github", false},
		{"unknown group, right groups", []Rule{byGroup}, noGID, "github", false},
		{"unknown groups, right group", []Rule{byGroup}, noGroups, "github", false},
		{"group known, user not", []Rule{byGroup}, noUID, "github", true},
	})
}

func TestDecideUnits(t *testing.T) {
	decideAll(t, []question{
		{"unit", []Rule{byUnit}, in(caller(9, 9), "sync.service"), "github", true},
		{"unit by glob", []Rule{byUnit}, in(caller(9, 9), "backup@daily.service"), "github", true},
		{"another unit", []Rule{byUnit}, in(caller(9, 9), "async.service"), "github", false},
		{"unit of a user of that name", []Rule{byUnit}, in(caller(9, 9), "user@1000.service/sync.service"), "github", false},
		{"glob that would reach into a user's units", []Rule{{Units: list("user@*.service"), Services: all}},
			in(caller(9, 9), "user@1000.service/sync.service"), "github", false},
		{"user's units", []Rule{{Units: list("user@1000.service/*"), Services: all}},
			in(caller(9, 9), "user@1000.service/sync.service"), "github", true},
		{"unknown unit", []Rule{byUnit}, caller(9, 9), "github", false},
		{"unknown unit and a glob for all", []Rule{{Units: list("*"), Services: all}}, caller(9, 9), "github", false},
	})
}

func TestDecideSeveralConditions(t *testing.T) {
	decideAll(t, []question{
		{"all that is named", []Rule{byAll}, in(caller(1000, 50), "sync.service"), "github", true},
		{"all but the user", []Rule{byAll}, in(caller(1001, 50), "sync.service"), "github", false},
		{"all but the group", []Rule{byAll}, in(caller(1000, 51), "sync.service"), "github", false},
		{"all but the unit", []Rule{byAll}, in(caller(1000, 50), "x.service"), "github", false},
		{"all but the service", []Rule{byAll}, in(caller(1000, 50), "sync.service"), "gitlab", false},
		{"met by two rules together only", []Rule{byAll, {Users: list("bob"), Services: list("gitlab")}},
			in(caller(1000, 50), "sync.service"), "gitlab", false},
		{"the second rule", []Rule{byAll, byUser}, caller(1001, 9), "gitlab", true},
	})
}

func TestDecideLoopback(t *testing.T) {
	decideAll(t, []question{
		{"tcp, named", []Rule{tcp}, peer.TCP(), "github", true},
		{"tcp, not named", []Rule{byUser, byGroup, byUnit}, peer.TCP(), "github", false},
		{"tcp is not anyone", []Rule{anyone}, peer.TCP(), "mirror", false},
		{"a process is not tcp", []Rule{tcp}, caller(0, 0), "github", false},
	})
}

func TestDecideAnyone(t *testing.T) {
	decideAll(t, []question{
		{"anyone", []Rule{anyone}, caller(9, 9), "mirror", true},
		{"anyone, another service", []Rule{anyone}, caller(9, 9), "github", false},
		{"anyone of whom nothing is known", []Rule{anyone}, &peer.Identity{}, "mirror", true},
		{"the daemon itself", []Rule{anyone}, peer.Internal(), "mirror", false},
		{"nobody at all", []Rule{anyone}, nil, "mirror", false},
	})
}

func TestDecideServicesAndNoRules(t *testing.T) {
	decideAll(t, []question{
		{"service in another case", []Rule{{Users: list("alice"), Services: list("github")}}, caller(1000, 9), "GitHub", false},
		{"service with more behind", []Rule{{Users: list("alice"), Services: list("git")}}, caller(1000, 9), "github", false},
		{"no service", []Rule{{Users: list("alice"), Services: list("?*")}}, caller(1000, 9), "", false},
		{"an empty list of rules", []Rule{}, caller(0, 0), "github", false},
		{"no rules", nil, caller(9, 9), "github", true},
		{"no rules, nothing known", nil, &peer.Identity{}, "github", true},
		{"no rules, tcp", nil, peer.TCP(), "github", true},
		{"no rules, the daemon itself", nil, peer.Internal(), "github", false},
		{"no rules, nobody at all", nil, nil, "github", false},
	})
}

// agree checks that the explanation of each rule adds up to the decision.
func agree(t testing.TB, r *Rules, d Decision, id *peer.Identity, service string) {
	t.Helper()
	first := ""
	for _, v := range r.Explain(id, service) {
		require.NotEmpty(t, v.Reason)
		if v.Allows && first == "" {
			first = v.Rule
		}
	}
	require.Equal(t, d.Rule, first)
}

func TestZeroRulesAllowNothing(t *testing.T) {
	require.False(t, (&Rules{}).Decide(caller(0, 0), "github").Allowed)
}

func TestDecisionNamesTheRule(t *testing.T) {
	r := compile(t,
		Rule{Name: "ci", Users: list("alice"), Services: list("npm")},
		Rule{Users: list("alice"), Services: list("github")},
		Rule{Name: "later", Users: list("alice"), Services: list("*")})
	require.Equal(t, Decision{Allowed: true, Rule: "ci", Reason: `allowed by the rule "ci"`}, r.Decide(caller(1000, 9), "npm"))
	require.Equal(t, "rule 2", r.Decide(caller(1000, 9), "github").Rule)
	require.Equal(t, "later", r.Decide(caller(1000, 9), "slack").Rule)
	require.Equal(t, Decision{Reason: reasonDenied}, r.Decide(caller(1001, 9), "npm"))
}

func TestExplain(t *testing.T) {
	unknown := caller(1000, 9)
	unknown.GID = peer.Unknown[uint32]("not mapped")
	half := caller(1000, 9)
	half.Groups = peer.Unknown[[]uint32]("no SO_PEERGROUPS")
	for _, c := range []struct {
		name string
		rule Rule
		id   *peer.Identity
		want string
	}{
		{"service", Rule{Users: list("alice"), Services: list("npm", "a-*")}, caller(1000, 9), "it is not for this service, but for npm, a-*"},
		{"user", Rule{Users: list("bob", "7"), Services: list("*")}, caller(1000, 9), "the caller's user: 1000; it is for bob, 7"},
		{"groups", Rule{Groups: list("staff"), Services: list("*")}, caller(1000, 9, 8), "the caller's groups: [9 8]; it is for staff"},
		{"group unknown", Rule{Groups: list("staff"), Services: list("*")}, unknown, "the caller's groups can't be told (not mapped); it is for staff"},
		{"groups unknown", Rule{Groups: list("staff"), Services: list("*")}, half, "the caller's groups can't be told (no SO_PEERGROUPS); it is for staff"},
		{"unit", Rule{Units: list("a.service"), Services: list("*")}, in(caller(1, 1), "b.service"), "the caller's unit: b.service; it is for a.service"},
		{"unit unknown", Rule{Units: list("a.service"), Services: list("*")}, caller(1, 1), "the caller's unit can't be told (nobody looked); it is for a.service"},
		{"tcp", Rule{Anyone: true, Services: list("*")}, peer.TCP(), "it does not name the principal tcp"},
		{"for tcp", Rule{Principals: list("tcp"), Services: list("*")}, caller(1, 1), "it is for callers on the loopback address (principal tcp)"},
		{"nobody", Rule{Anyone: true, Services: list("*")}, nil, reasonNobody},
		{"allowed", Rule{Anyone: true, Services: list("*")}, caller(1, 1), `allowed by the rule "rule 1"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := compile(t, c.rule).Explain(c.id, "github")
			require.Equal(t, []Verdict{{Rule: "rule 1", Allows: c.name == "allowed", Reason: c.want}}, v)
		})
	}
	require.Nil(t, (*Rules)(nil).Explain(caller(1, 1), "github"))
}

func TestRulesDoNotChangeWithTheirSource(t *testing.T) {
	rules := []Rule{{Units: list("a.service"), Services: list("github")}}
	r := compile(t, rules...)
	rules[0].Units[0], rules[0].Services[0] = "*", "*"
	stranger := in(caller(1, 1), "b.service")
	require.False(t, r.Decide(stranger, "github").Allowed)
	require.Equal(t, "the caller's unit: b.service; it is for a.service", r.Explain(stranger, "github")[0].Reason)
	require.Equal(t, "it is not for this service, but for github", r.Explain(stranger, "slack")[0].Reason)
}

func TestAsksUnits(t *testing.T) {
	require.False(t, (*Rules)(nil).AsksUnits())
	require.False(t, compile(t, Rule{Anyone: true, Services: list("*")}).AsksUnits())
	require.True(t, compile(t, Rule{Anyone: true, Services: list("*")}, Rule{Units: list("*"), Services: list("*")}).AsksUnits())
}

func TestAllowingAllocatesNothing(t *testing.T) {
	r, id := benchmarkRules(t)
	require.Zero(t, testing.AllocsPerRun(100, func() { r.Decide(id, "github") }))
	require.Zero(t, testing.AllocsPerRun(100, func() { r.Decide(id, "denied") }), "nor does denying")
}

func benchmarkRules(t testing.TB) (*Rules, *peer.Identity) {
	r := compile(t,
		Rule{Users: list("bob"), Services: list("github")},
		Rule{Groups: list("staff"), Services: list("git*")},
		Rule{Users: list("alice"), Groups: list("agents"), Units: list("*@*.service"), Services: list("npm-*", "git?u*")})
	return r, in(caller(1000, 9, 1, 2, 3, 4, 60), "agent@blue.service")
}

func BenchmarkDecide(b *testing.B) {
	r, id := benchmarkRules(b)
	b.ReportAllocs()
	for b.Loop() {
		if !r.Decide(id, "github").Allowed {
			b.Fatal("denied")
		}
	}
}

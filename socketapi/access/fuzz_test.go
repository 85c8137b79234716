package access

import (
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/grantexd/grantexd/socketapi/peer"
)

// words splits what the fuzzer made up into a list.
func words(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(s, ",")
}

// FuzzCompile looks for rules that pass although they can't mean anything.
func FuzzCompile(f *testing.F) {
	f.Add("ci", "alice,1234", "staff", "a@*.service", "", false, "github,npm-*")
	f.Add("", "", "", "", "tcp", false, "*")
	f.Add("x", "", "", "", "", true, "*")
	f.Add("x", "65534,nobody,007,-1,4294967295", "nogroup", "[a]", "internal", true, "a/b")
	f.Fuzz(func(t *testing.T, name, users, groups, units, principals string, anyone bool, services string) {
		rule := Rule{Name: name, Users: words(users), Groups: words(groups), Units: words(units),
			Principals: words(principals), Anyone: anyone, Services: words(services)}
		r, err := Compile([]Rule{rule}, accounts{})
		if err != nil {
			require.Nil(t, r)
			require.NotContains(t, err.Error(), "\x00", "what is quoted in an error is escaped")
			return
		}
		require.NotEmpty(t, rule.Services)
		asks := len(rule.Users) + len(rule.Groups) + len(rule.Units)
		require.Equal(t, 1, count(anyone, asks > 0, len(rule.Principals) > 0), "exactly one kind of caller")
		require.Len(t, r.rules, 1)
		require.NotContains(t, r.rules[0].users, uint32(peer.Overflow))
		require.NotContains(t, r.rules[0].groups, uint32(peer.Overflow))
		// A caller of whom nothing is known gets in by anyone only.
		unknown := &peer.Identity{}
		d := r.Decide(unknown, "github")
		require.Equal(t, anyone && slices.ContainsFunc(rule.Services, func(p string) bool { return match(p, "github") }), d.Allowed)
		require.False(t, r.Decide(peer.Internal(), "github").Allowed)
	})
}

func count(bs ...bool) int {
	n := 0
	for _, b := range bs {
		if b {
			n++
		}
	}
	return n
}

// dice makes decisions of a fuzzer's bytes.
type dice struct{ bytes []byte }

// roll returns a number below n, 0 once the bytes are used up.
func (d *dice) roll(n int) int {
	if len(d.bytes) == 0 {
		return 0
	}
	b := d.bytes[0]
	d.bytes = d.bytes[1:]
	return int(b) % n
}

// some returns up to two of the words, mostly none or one.
func (d *dice) some(words ...string) []string {
	var out []string
	for range []int{0, 0, 1, 1, 2}[d.roll(5)] {
		out = append(out, words[d.roll(len(words))])
	}
	return out
}

// rule makes a rule that is valid if pattern is.
func (d *dice) rule(pattern string) Rule {
	r := Rule{Services: append(d.some("*", "git*", "?lack", "github", pattern), "s3")}
	switch d.roll(8) {
	case 0:
		r.Anyone = true
		return r
	case 1:
		r.Principals = list("tcp")
		return r
	}
	r.Users = d.some("alice", "bob", "0", "1000", "4294967294")
	r.Groups = d.some("staff", "agents", "0", "60")
	r.Units = d.some("*", "*.service", "a.service", "user@*.service/*", pattern)
	r.Anyone = len(r.Users)+len(r.Groups)+len(r.Units) == 0
	return r
}

func rollFact(d *dice, ids ...uint32) peer.Fact[uint32] {
	if d.roll(4) == 3 {
		return peer.Unknown[uint32]("the dice say so")
	}
	return peer.Known(ids[d.roll(len(ids))])
}

// caller makes a caller.
func (d *dice) caller(unit string) *peer.Identity {
	if d.roll(8) == 7 {
		return peer.TCP()
	}
	id := &peer.Identity{UID: rollFact(d, 1000, 1001, 0, 4294967294), GID: rollFact(d, 50, 60, 0, 7)}
	if g, known := rollFact(d, 50, 60, 0, 7).Get(); known {
		id.Groups = peer.Known([]uint32{8, g})
	}
	if units := d.some("a.service", "user@1000.service/a.service", "b.scope", unit); units != nil {
		id.Unit = peer.Known(units[0])
	}
	return id
}

// FuzzDecide compares with an oracle that is written from the documentation,
// without a thought to speed: up to three rules against one caller.
func FuzzDecide(f *testing.F) {
	f.Add([]byte{0}, "*", "a.service", "github")
	f.Add([]byte{2, 1, 0, 3, 2, 0, 2, 1, 2, 0, 1, 1, 1, 1, 1}, "git?ub", "x.scope", "github")
	f.Add([]byte{1, 3, 0, 0, 5, 0, 2, 0, 0, 0, 3, 1, 2, 0, 2, 1}, "a*b", "ab", "slack")
	f.Fuzz(func(t *testing.T, bytes []byte, pattern, unit, service string) {
		d := &dice{bytes}
		rules := make([]Rule, d.roll(4))
		for i := range rules {
			rules[i] = d.rule(pattern)
		}
		id := d.caller(unit)
		r, err := Compile(rules, accounts{})
		if err != nil {
			require.Regexp(t, "^(access rule .*: (unit|service|an empty (unit|service)) [^\n]*\n?)+$", err.Error(), "only the pattern can be wrong")
			return
		}
		want := ""
		for i, rule := range rules {
			if oracle(t, rule, id, service) {
				want = "rule " + strconv.Itoa(i+1)
				break
			}
		}
		decision := r.Decide(id, service)
		require.Equal(t, want, decision.Rule, "%+v", rules)
		require.Equal(t, want != "", decision.Allowed)
		agree(t, r, decision, id, service)
		if decision.Allowed {
			require.True(t, monotone(t, rules, id, service), "a rule more never takes anything away")
		}
	})
}

// oracle says whether one rule allows a caller.
func oracle(t *testing.T, r Rule, id *peer.Identity, service string) bool {
	some := func(list []string, match func(string) bool) bool {
		return len(list) == 0 || slices.ContainsFunc(list, match)
	}
	is := func(lookup func(string) (uint32, error), f peer.Fact[uint32]) func(string) bool {
		return func(name string) bool {
			want, err := number(name)
			if err != nil {
				want, err = lookup(name)
				require.NoError(t, err)
			}
			got, known := f.Get()
			return known && got == want
		}
	}
	member := func(name string) bool {
		supplementary, _ := id.Groups.Get()
		groups := []peer.Fact[uint32]{id.GID}
		for _, g := range supplementary {
			groups = append(groups, peer.Known(g))
		}
		return id.GID.Known() && id.Groups.Known() &&
			slices.ContainsFunc(groups, func(g peer.Fact[uint32]) bool { return is(accounts{}.GID, g)(name) })
	}
	return (id.Principal() == "tcp") == slices.Contains(r.Principals, "tcp") &&
		some(r.Users, is(accounts{}.UID, id.UID)) && some(r.Groups, member) &&
		some(r.Units, func(p string) bool { u, known := id.Unit.Get(); return known && match(p, u) }) &&
		slices.ContainsFunc(r.Services, func(p string) bool { return match(p, service) })
}

// monotone checks that what is allowed stays so with another rule before it.
func monotone(t *testing.T, rules []Rule, id *peer.Identity, service string) bool {
	// One more in front makes "rule 2" of "rule 1"; no name of these clashes.
	r, err := Compile(append([]Rule{{Name: "other", Users: list("4000000000"), Services: list("*")}}, rules...), accounts{})
	require.NoError(t, err)
	return r.Decide(id, service).Allowed
}

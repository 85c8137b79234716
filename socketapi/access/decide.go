package access

import (
	"slices"

	"github.com/grantexd/grantexd/socketapi/peer"
)

// Rules are compiled rules. They are immutable and safe for concurrent use; to
// change them, swap the pointer. Nil means that there are no rules, and allows
// everything; the zero value is an empty list, and allows nothing.
type Rules struct {
	rules []rule
}

// rule is a Rule that was checked, with numbers for names.
type rule struct {
	name     string
	reason   string // of a decision that it makes
	users    []uint32
	groups   []uint32
	units    []string
	services []string
	tcp      bool
	source   Rule // as it was written, for explanations
}

// Decision is what the rules say of one caller and one service.
type Decision struct {
	// Allowed says whether the caller may read the service's credential.
	Allowed bool
	// Rule is the name of the rule that allows it, "" if none does or there
	// are no rules.
	Rule string
	// Reason says why, for explain and check. That of a denial says nothing of
	// the rules, so that the denied caller may see it.
	Reason string
}

const (
	reasonNoRules  = "there are no access rules: whoever reaches the socket may read everything"
	reasonDenied   = "no access rule allows it"
	reasonNobody   = "the caller was not identified"
	reasonInternal = "the daemon's own check reads no credentials"
)

// Decide says whether id may read service. A nil id, of whom not even a
// principal is known, is denied whatever the rules.
func (r *Rules) Decide(id *peer.Identity, service string) Decision {
	if reason := neverAllowed(id); reason != "" {
		return Decision{Reason: reason}
	}
	if r == nil {
		return Decision{Allowed: true, Reason: reasonNoRules}
	}
	for i := range r.rules {
		rule := &r.rules[i]
		if matchAny(rule.services, service) && rule.unmet(id) == asksNothing {
			return Decision{Allowed: true, Rule: rule.name, Reason: rule.reason}
		}
	}
	return Decision{Reason: reasonDenied}
}

// neverAllowed returns why no rule, nor the absence of rules, can allow id
// anything; "" if that is not so.
func neverAllowed(id *peer.Identity) string {
	if id == nil {
		return reasonNobody
	}
	if id.Principal() == peer.PrincipalInternal {
		return reasonInternal
	}
	return ""
}

// requirement is what a rule asks of a caller.
type requirement int

const (
	asksNothing requirement = iota
	asksLoopback
	asksSocket
	asksUser
	asksGroup
	asksUnit
)

// unmet returns the first thing that the rule asks of a caller and that id does
// not meet.
func (r *rule) unmet(id *peer.Identity) requirement {
	tcp := id.Principal() == peer.PrincipalTCP
	switch {
	case r.tcp && !tcp:
		return asksLoopback
	case tcp && !r.tcp:
		return asksSocket
	case len(r.users) > 0 && !contains(r.users, id.UID):
		return asksUser
	case len(r.groups) > 0 && !memberOf(r.groups, id):
		return asksGroup
	case len(r.units) > 0 && !inAnyUnit(r.units, id.Unit):
		return asksUnit
	}
	return asksNothing
}

func contains(ids []uint32, f peer.Fact[uint32]) bool {
	id, known := f.Get()
	return known && slices.Contains(ids, id)
}

// memberOf asks for both facts: a caller of whom only one could be found out is
// one that something is wrong with.
func memberOf(ids []uint32, id *peer.Identity) bool {
	gid, known := id.GID.Get()
	groups, allKnown := id.Groups.Get()
	if !known || !allKnown {
		return false
	}
	return slices.Contains(ids, gid) ||
		slices.ContainsFunc(groups, func(g uint32) bool { return slices.Contains(ids, g) })
}

func inAnyUnit(patterns []string, f peer.Fact[string]) bool {
	unit, known := f.Get()
	return known && matchAny(patterns, unit)
}

// AsksUnits reports whether any rule names a unit, and so whether it matters
// that the daemon can read its callers' cgroups.
func (r *Rules) AsksUnits() bool {
	return r != nil && slices.ContainsFunc(r.rules, func(r rule) bool { return len(r.units) > 0 })
}

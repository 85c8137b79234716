package access

import (
	"fmt"
	"strings"

	"github.com/grantexd/grantexd/socketapi/peer"
)

// Verdict is what one rule says of one caller and one service.
type Verdict struct {
	// Rule is the rule's name.
	Rule string
	// Allows says whether it alone would allow the read.
	Allows bool
	// Reason says why, in words for a person.
	Reason string
}

// Explain returns what each rule says, in the order of the config. It is nil if
// there are no rules. Unlike a [Decision]'s reason it is not for the denied
// caller.
func (r *Rules) Explain(id *peer.Identity, service string) []Verdict {
	if r == nil {
		return nil
	}
	out := make([]Verdict, 0, len(r.rules))
	for i := range r.rules {
		out = append(out, r.rules[i].explain(id, service))
	}
	return out
}

func (r *rule) explain(id *peer.Identity, service string) Verdict {
	v := Verdict{Rule: r.name}
	if v.Reason = neverAllowed(id); v.Reason != "" {
		return v
	}
	if !matchAny(r.services, service) {
		v.Reason = "it is not for this service, but for " + strings.Join(r.services, ", ")
		return v
	}
	switch r.unmet(id) {
	case asksNothing:
		v.Allows, v.Reason = true, r.reason
	case asksLoopback:
		v.Reason = "it is for callers on the loopback address (principal tcp)"
	case asksSocket:
		v.Reason = "it does not name the principal tcp"
	case asksUser:
		v.Reason = mismatch("user", id.UID, r.source.Users)
	case asksGroup:
		v.Reason = mismatch("groups", allGroups(id), r.source.Groups)
	case asksUnit:
		v.Reason = mismatch("unit", id.Unit, r.source.Units)
	}
	return v
}

// allGroups returns the group and the supplementary groups, known if both are.
func allGroups(id *peer.Identity) peer.Fact[[]uint32] {
	gid, known := id.GID.Get()
	if !known {
		return peer.Unknown[[]uint32](id.GID.Reason())
	}
	groups, known := id.Groups.Get()
	if !known {
		return id.Groups
	}
	return peer.Known(append([]uint32{gid}, groups...))
}

func mismatch[T any](what string, f peer.Fact[T], want []string) string {
	value, known := f.Get()
	if !known {
		return fmt.Sprintf("the caller's %s can't be told (%s); it is for %s", what, f.Reason(), strings.Join(want, ", "))
	}
	return fmt.Sprintf("the caller's %s: %v; it is for %s", what, value, strings.Join(want, ", "))
}

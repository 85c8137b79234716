package access

import (
	"errors"
	"fmt"
	"os/user"
	"slices"
	"strconv"
	"strings"

	"github.com/grantexd/grantexd/socketapi/peer"
)

// Rule allows the callers that it describes to read the services that it lists.
// See the package comment for how it is read.
type Rule struct {
	// Name is what logs and explain call it; empty for "rule N", counted from
	// one. No two rules may have the same.
	Name string `yaml:"name"`
	// Users are the callers' users, by name or number.
	Users []string `yaml:"users"`
	// Groups are groups of which the caller is a member, by name or number.
	Groups []string `yaml:"groups"`
	// Units are globs of the systemd units that callers run in.
	Units []string `yaml:"units"`
	// Principals are callers that are no process on the socket: "tcp".
	Principals []string `yaml:"principals"`
	// Anyone stands instead of the four above for everybody whom the socket's
	// mode lets in.
	Anyone bool `yaml:"anyone"`
	// Services are globs of the services that may be read.
	Services []string `yaml:"services"`
}

// Lookup finds the numbers of users and groups.
type Lookup interface {
	// UID returns the number of the user with this name.
	UID(name string) (uint32, error)
	// GID returns the number of the group with this name.
	GID(name string) (uint32, error)
}

// Host is the host's user database, as os/user reads it. The zero value is
// ready to use.
type Host struct{}

// UID implements [Lookup].
func (Host) UID(name string) (uint32, error) {
	u, err := user.Lookup(name)
	if err != nil {
		return 0, err
	}
	return number(u.Uid)
}

// GID implements [Lookup].
func (Host) GID(name string) (uint32, error) {
	g, err := user.LookupGroup(name)
	if err != nil {
		return 0, err
	}
	return number(g.Gid)
}

func number(s string) (uint32, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	return uint32(n), err
}

// Compile checks rules and looks their users and groups up. It returns every
// mistake at once, each with the name of its rule. A nil lookup is [Host].
//
// Nil rules, as of a config that says nothing of access, give nil [Rules], which
// allow everything; an empty list that is not nil gives Rules that allow
// nothing. A name that can't be looked up is an error and not a rule less: later
// somebody may be given that name.
func Compile(rules []Rule, lookup Lookup) (*Rules, error) {
	if rules == nil {
		return nil, nil
	}
	if lookup == nil {
		lookup = Host{}
	}
	out := &Rules{rules: make([]rule, 0, len(rules))}
	var errs []error
	seen := make(map[string]bool, len(rules))
	for i, r := range rules {
		name := r.Name
		if name == "" {
			name = "rule " + strconv.Itoa(i+1)
		}
		compiled, mistakes := compileRule(name, r, lookup)
		if seen[name] {
			mistakes = append(mistakes, errors.New("another rule has the same name"))
		}
		seen[name] = true
		for _, err := range mistakes {
			errs = append(errs, fmt.Errorf("access rule %q: %w", name, err))
		}
		out.rules = append(out.rules, compiled)
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return out, nil
}

// clone returns a copy that does not change with the original.
func (r Rule) clone() Rule {
	r.Users, r.Groups, r.Units = slices.Clone(r.Users), slices.Clone(r.Groups), slices.Clone(r.Units)
	r.Principals, r.Services = slices.Clone(r.Principals), slices.Clone(r.Services)
	return r
}

// compileRule returns the rule and what is wrong with it.
func compileRule(name string, r Rule, lookup Lookup) (rule, []error) {
	c := rule{name: name, reason: "allowed by the rule " + strconv.Quote(name), source: r.clone()}
	var mistakes, more []error
	if strings.TrimSpace(name) != name || strings.ContainsFunc(name, notPrintable) {
		mistakes = append(mistakes, errors.New("the name must be printable, without space around it"))
	}
	if err := checkCallers(r); err != nil {
		mistakes = append(mistakes, err)
	}
	c.users, more = numbers("user", r.Users, lookup.UID)
	mistakes = append(mistakes, more...)
	c.groups, more = numbers("group", r.Groups, lookup.GID)
	mistakes = append(mistakes, more...)
	for _, p := range r.Principals {
		if p != peer.PrincipalTCP {
			mistakes = append(mistakes, fmt.Errorf("principal %q is none: only %q can be named, users have a list of their own", p, peer.PrincipalTCP))
		}
		c.tcp = true
	}
	c.units, more = globs("unit", r.Units, inUnit, maxUnit)
	mistakes = append(mistakes, more...)
	c.services, more = globs("service", r.Services, inService, maxService)
	mistakes = append(mistakes, more...)
	if len(r.Services) == 0 {
		mistakes = append(mistakes, errors.New(`services are missing: list them, or write "*" for all`))
	}
	return c, mistakes
}

// checkCallers refuses rules that describe nobody, and such as contradict
// themselves.
func checkCallers(r Rule) error {
	process := len(r.Users) > 0 || len(r.Groups) > 0 || len(r.Units) > 0
	switch {
	case r.Anyone && (process || len(r.Principals) > 0):
		return errors.New("anyone stands alone: remove it, or users, groups, units and principals")
	case !r.Anyone && !process && len(r.Principals) == 0:
		return errors.New("no caller is named: list users, groups, units or principals, or write anyone: true")
	case process && len(r.Principals) > 0:
		return errors.New("principals have no user, group or unit: write a rule of their own for them")
	}
	return nil
}

// numbers returns the numbers of users or groups, and what is wrong with them.
func numbers(kind string, names []string, lookup func(string) (uint32, error)) (ids []uint32, mistakes []error) {
	for _, name := range names {
		id, err := parseNumber(kind, name, lookup)
		if err != nil {
			mistakes = append(mistakes, err)
			continue
		}
		ids = append(ids, id)
	}
	return ids, mistakes
}

func parseNumber(kind, name string, lookup func(string) (uint32, error)) (uint32, error) {
	if name == "" {
		return 0, fmt.Errorf("an empty %s name", kind)
	}
	var id uint32
	if strings.Trim(name, "0123456789") == "" {
		n, err := strconv.ParseUint(name, 10, 32)
		if err != nil {
			return 0, fmt.Errorf("%s number %s is too large", kind, name)
		}
		if len(name) > 1 && name[0] == '0' {
			// Octal to some readers, decimal to others.
			return 0, fmt.Errorf("%s number %s begins with a zero", kind, name)
		}
		id = uint32(n)
	} else {
		n, err := lookup(name)
		if err != nil {
			return 0, fmt.Errorf("%s %q can't be found in the user database (a number always works): %w", kind, name, err)
		}
		id = n
	}
	if id == peer.Overflow || id == noID {
		return 0, fmt.Errorf("%s %s stands for everybody unknown, so no caller can match it", kind, name)
	}
	return id, nil
}

// noID is (uid_t)-1, which no process can have.
const noID = 1<<32 - 1

func notPrintable(r rune) bool { return !strconv.IsPrint(r) }

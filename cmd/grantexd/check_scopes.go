package main

import (
	"slices"
	"strings"

	"github.com/grantexd/grantexd/daemon/grant"
	"github.com/grantexd/grantexd/upstream"
)

// everyService stands for all services.
const everyService = "*"

// checkScopes says which services the grant opens, and whether those that are to
// be prefetched are among them.
func (c *checkup) checkScopes(claims grant.Claims) {
	const subject = "grant.scopes"
	if !claims.ScopesKnown {
		c.warn(subject, "they have a shape that only the vault understands: what they open is found out by asking it")
		return
	}
	services, others := servicesOf(claims.Scopes)
	also := ""
	if len(others) > 0 {
		also = "; these open no credential: " + strings.Join(others, ", ")
	}
	switch {
	case slices.Contains(services, everyService):
		c.ok(subject, "they open every service%s", also)
	case len(services) == 0:
		c.bad(subject, "they open no service at all%s; get a grant with scopes such as github:read", also)
	default:
		c.ok(subject, "they open %s%s", strings.Join(services, ", "), also)
	}
	for _, service := range c.config.Cache.Prefetch {
		if !upstream.Covers(claims.Scopes, service) {
			c.warn("cache.prefetch", "the grant does not open %s: take it out, or get a grant with one of %s",
				service, strings.Join(upstream.ScopesFor(service), ", "))
		}
	}
}

// servicesOf returns the services that scopes open, and the scopes that open
// none. A scope names its service in one of its parts; whether it opens it is for
// the same rule to say that the daemon refuses by.
func servicesOf(scopes []string) (services, others []string) {
	for _, scope := range scopes {
		one := []string{scope}
		// No service has this name, so what covers it covers all of them.
		found := upstream.Covers(one, "\x00")
		if found {
			services = append(services, everyService)
		}
		for part := range strings.SplitSeq(scope, ":") {
			if !found && upstream.ValidService(part) && upstream.Covers(one, part) {
				services, found = append(services, part), true
			}
		}
		if !found {
			others = append(others, scope)
		}
	}
	slices.Sort(services)
	return slices.Compact(services), others
}

package upstream

import (
	"slices"
	"strings"
)

// ScopesFor returns every scope that lets a grant token exchange for service,
// the widest first, as the vault's scope check knows them.
func ScopesFor(service string) []string {
	return []string{
		"*",
		service + ":*",
		service + ":read",
		service + ":credentials:read",
		"vault:" + service + ":*",
		"vault:" + service + ":read",
		"vault:credentials:exchange",
	}
}

// Covers reports whether any of a grant token's scopes lets it exchange for
// service. As in the vault, case does not matter.
func Covers(scopes []string, service string) bool {
	for _, enough := range ScopesFor(service) {
		for _, scope := range scopes {
			if strings.EqualFold(scope, enough) {
				return true
			}
		}
	}
	return false
}

// MayCover reports whether an exchange for service is worth a departure: the
// scopes cover it, or one of them is of a shape whose meaning is not documented,
// so that only the vault can tell.
func MayCover(scopes []string, service string) bool {
	return Covers(scopes, service) || slices.ContainsFunc(scopes, isOpaque)
}

// isOpaque reports whether a scope has none of the shapes resource:action,
// resource:credentials:action and vault:service:action with an action that is
// documented.
func isOpaque(scope string) bool {
	parts := strings.Split(strings.ToLower(scope), ":")
	if slices.Contains(parts, "") {
		return true
	}
	switch len(parts) {
	case 2:
		return false
	case 3:
		documented := parts[0] == "vault" && slices.Contains([]string{"*", "read", "write"}, parts[2])
		return parts[1] != "credentials" && !documented
	}
	return scope != "*"
}

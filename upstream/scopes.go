package upstream

import "strings"

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

package socketapi

// maxNameLength is the longest service name that the vault stores.
const maxNameLength = 64

// validName reports whether s is a service name: the vault's
// ^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$, so that no other name costs a departure.
// What it admits is safe in a path, a header and a log line.
func validName(s string) bool {
	if len(s) == 0 || len(s) > maxNameLength || !isAlphanumeric(s[0]) {
		return false
	}
	for i := 1; i < len(s); i++ {
		if c := s[i]; !isAlphanumeric(c) && c != '.' && c != '_' && c != '-' {
			return false
		}
	}
	return true
}

func isAlphanumeric(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

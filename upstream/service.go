package upstream

import "errors"

// maxServiceName is the longest name of a service that the vault takes.
const maxServiceName = 64

// ErrInvalidService means that a name can't be that of a service, so that
// nothing was sent. The vault would answer 400.
var ErrInvalidService = errors.New("a service's name is 1 to 64 letters, digits, dots, underscores and dashes, " +
	"and starts with a letter or a digit")

// ValidService reports whether the vault accepts name as that of a service:
// ^[a-z0-9][a-z0-9._-]{0,63}$ in either case.
func ValidService(name string) bool {
	if name == "" || len(name) > maxServiceName {
		return false
	}
	for i := range len(name) {
		c := name[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case i > 0 && (c == '.' || c == '_' || c == '-'):
		default:
			return false
		}
	}
	return true
}

package daemon

import (
	"errors"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/grantexd/grantexd/socketapi/access"
	"github.com/grantexd/grantexd/socketapi/peer"
)

// silentLookup finds users and groups, with errors that don't repeat their names.
// Nil inside means the host's database.
type silentLookup struct{ inner access.Lookup }

func (s silentLookup) orHost() access.Lookup {
	if s.inner == nil {
		return access.Host{}
	}
	return s.inner
}

var errNoSuchName = errors.New("there is no such name")

func (s silentLookup) UID(name string) (uint32, error) {
	id, err := s.orHost().UID(name)
	if err != nil {
		return 0, errNoSuchName
	}
	return id, nil
}

func (s silentLookup) GID(name string) (uint32, error) {
	id, err := s.orHost().GID(name)
	if err != nil {
		return 0, errNoSuchName
	}
	return id, nil
}

// mistakes takes apart what errors.Join joined.
func mistakes(err error) []error {
	if err == nil {
		return nil
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return joined.Unwrap()
	}
	return []error{err}
}

// accountName is what the names of users and groups look like (useradd(8)), and
// no secret does.
var accountName = regexp.MustCompile(`^[a-z_][a-z0-9_-]{0,31}$`)

// hideValues removes the values of a rule from what is said of it, but for what
// can only be the name of a user or a group. The position says which rule it is.
func hideValues(text string, r access.Rule) string {
	var values []string
	for _, name := range slices.Concat(r.Users, r.Groups) {
		if !accountName.MatchString(name) {
			values = append(values, name)
		}
	}
	for _, v := range slices.Concat([]string{r.Name}, r.Units, r.Principals, r.Services, values) {
		if v == "" || v == peer.PrincipalTCP {
			continue
		}
		text = strings.ReplaceAll(text, strconv.Quote(v), `"…"`)
		if runes := []rune(v); len(runes) > 32 {
			text = strings.ReplaceAll(text, strconv.Quote(string(runes[:32])), `"…"`)
		}
		if len(v) >= 8 { // a number that is too large, which is not quoted
			text = strings.ReplaceAll(text, v, "…")
		}
	}
	return text
}

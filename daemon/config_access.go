package daemon

import (
	"errors"
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

// hideValues removes the values of a rule from what is said of it. The position
// says which one it is.
func hideValues(text string, r access.Rule) string {
	values := []string{r.Name}
	for _, list := range [][]string{r.Users, r.Groups, r.Units, r.Principals, r.Services} {
		values = append(values, list...)
	}
	for _, v := range values {
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

package access

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/grantexd/grantexd/socketapi/peer"
)

// accounts is a user database.
type accounts struct{}

var errNoAccount = errors.New("no such account")

func (accounts) UID(name string) (uint32, error) {
	return find(map[string]uint32{"root": 0, "alice": 1000, "bob": 1001, "nobody": 65534}, name)
}

func (accounts) GID(name string) (uint32, error) {
	return find(map[string]uint32{"root": 0, "staff": 50, "agents": 60, "nogroup": 65534}, name)
}

func find(ids map[string]uint32, name string) (uint32, error) {
	id, ok := ids[name]
	if !ok {
		return 0, errNoAccount
	}
	return id, nil
}

func compile(t testing.TB, rules ...Rule) *Rules {
	t.Helper()
	r, err := Compile(rules, accounts{})
	require.NoError(t, err)
	return r
}

// caller returns a known process.
func caller(uid, gid uint32, groups ...uint32) *peer.Identity {
	return &peer.Identity{
		UID: peer.Known(uid), GID: peer.Known(gid), Groups: peer.Known(groups),
		Unit: peer.Unknown[string]("nobody looked"),
	}
}

// in puts a caller into a unit.
func in(id *peer.Identity, unit string) *peer.Identity {
	id.Unit = peer.Known(unit)
	return id
}

func list(s ...string) []string { return s }

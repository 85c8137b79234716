package peer

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"os/user"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestZeroValuesAreUnknown(t *testing.T) {
	var f Fact[uint32]
	_, known := f.Get()
	require.False(t, known)
	require.False(t, f.Known())
	require.NotEmpty(t, f.Reason())
	require.Empty(t, Known(uint32(0)).Reason())
	require.True(t, Known(uint32(0)).Known())

	var id Identity
	require.Equal(t, PrincipalUnknown, id.Principal())
	require.Len(t, id.Unknowns(), 7)
}

func TestCallersThatAreNoProcess(t *testing.T) {
	require.Equal(t, PrincipalTCP, TCP().Principal())
	require.Equal(t, PrincipalInternal, Internal().Principal())
	require.Len(t, TCP().Unknowns(), 7)
	require.Len(t, Internal().Unknowns(), 7)
	require.Equal(t, "tcp", TCP().String())
}

func TestDescriptions(t *testing.T) {
	id := identify(newFake(), fakeConn{})
	require.Equal(t, "uid:1000 uid=1000 gid=1001 groups=[4 27] pid=1234 executable=/usr/bin/curl unit=backup.service", id.String())

	var buf bytes.Buffer
	slog.New(slog.NewJSONHandler(&buf, nil)).Info("x", "caller", id)
	var line struct{ Caller map[string]any }
	require.NoError(t, json.Unmarshal(buf.Bytes(), &line))
	require.Equal(t, map[string]any{
		"principal": "uid:1000", "uid": 1000.0, "gid": 1001.0, "groups": []any{4.0, 27.0},
		"pid": 1234.0, "executable": "/usr/bin/curl", "unit": "backup.service",
	}, line.Caller)
	require.Equal(t, map[string]string{"container": "the caller's cgroup names no container"}, id.Unknowns())
	id.Container = Known("x")
	require.Nil(t, id.Unknowns())
}

func TestPrincipalCostsNothing(t *testing.T) {
	id := identify(newFake(), fakeConn{})
	require.Zero(t, testing.AllocsPerRun(100, func() { _ = id.Principal() }))
}

func TestAs(t *testing.T) {
	lookup := func(groups []string, err error) func(string) ([]string, error) {
		return func(uid string) ([]string, error) {
			require.Equal(t, "1000", uid)
			return groups, err
		}
	}
	for _, c := range []struct {
		name   string
		groups []string
		err    error
		want   Fact[[]uint32]
	}{
		{"an account", []string{"1001", "4"}, nil, Known([]uint32{1001, 4})},
		{"no account", nil, user.UnknownUserIdError(1000), Known[[]uint32](nil)},
		{"with nogroup", []string{"65534", "4"}, nil, Known([]uint32{4})},
		{"no database", nil, errors.New("boom"), Unknown[[]uint32]("the user database can't be asked: boom")},
	} {
		t.Run(c.name, func(t *testing.T) {
			id := as(newFake(), 1000, 1001, lookup(c.groups, c.err))
			require.Equal(t, "uid:1000", id.Principal())
			require.Equal(t, Known(uint32(1000)), id.UID)
			require.Equal(t, Known(uint32(1001)), id.GID)
			require.Equal(t, c.want, id.Groups)
			require.False(t, id.Unit.Known())
			require.False(t, id.PID.Known())
		})
	}
}

func TestAsAsksTheHost(t *testing.T) {
	require.True(t, As(0, 0).Groups.Known(), As(0, 0).Groups.Reason())
	require.Equal(t, Known[[]uint32](nil), As(4_000_000_001, 4_000_000_001).Groups)
	require.False(t, As(Overflow, Overflow).UID.Known())
	require.False(t, As(Overflow, Overflow).GID.Known())
}

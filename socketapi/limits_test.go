package socketapi

import (
	"math"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestConnLimits(t *testing.T) {
	type step struct {
		who   account
		leave bool
		want  verdict
	}
	in := func(who account, want verdict) step { return step{who: who, want: want} }
	out := func(who account) step { return step{who: who, leave: true} }
	cases := []struct {
		name            string
		max, perAccount int
		steps           []step
	}{
		{"its own limit", 8, 2, []step{
			in(1, admitted), in(1, admitted), in(1, tooManyOfAccount), in(2, admitted),
			out(1), in(1, admitted), in(1, tooManyOfAccount),
		}},
		{"the reserve is for those who have few", 20, 100, append(
			slices.Repeat([]step{in(1, admitted)}, 15), // of 20, of which 5 are the reserve
			in(1, tooManyOfAccount),
			in(2, admitted), in(2, admitted), in(2, admitted), in(2, admitted), in(2, tooManyOfAccount),
			in(3, admitted), in(4, tooMany), in(2, tooMany),
			out(1), in(1, tooManyOfAccount), in(4, admitted),
		)},
		{"unknown callers and tcp are accounts too", 8, 1, []step{
			in(accountUnknown, admitted), in(accountUnknown, tooManyOfAccount),
			in(accountTCP, admitted), in(accountTCP, tooManyOfAccount), in(1, admitted),
		}},
		{"a limit of one", 1, 1, []step{in(1, admitted), in(2, tooMany), out(1), in(2, admitted)}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			l := newConnLimits(c.max, c.perAccount)
			for i, s := range c.steps {
				if s.leave {
					l.leave(s.who)
					continue
				}
				require.Equal(t, s.want, l.admit(s.who), "step %d", i)
			}
		})
	}
}

func TestConnLimitsForgetWhoLeft(t *testing.T) {
	l := newConnLimits(8, 8)
	for who := range account(1000) {
		require.Equal(t, admitted, l.admit(who))
		l.leave(who)
	}
	require.Empty(t, l.byAccount)
	require.Zero(t, l.total)
}

func TestDefaultLimitsLeaveRoomForOthers(t *testing.T) {
	l := newConnLimits(DefaultMaxConns, DefaultMaxConnsPerUID)
	for range 1000 {
		require.Equal(t, admitted, l.admit(50), "a thousand callers of one user at once are welcome")
	}
	for who := range account(50) { // and fifty more users who take what they can
		for l.admit(who) == admitted {
		}
	}
	for range 16 {
		require.Equal(t, admitted, l.admit(99))
	}
}

func TestAccountNames(t *testing.T) {
	require.Equal(t, "uid:1000", account(1000).String())
	require.Equal(t, "tcp", accountTCP.String())
	require.Equal(t, "unknown", accountUnknown.String())
}

func TestAffordable(t *testing.T) {
	for _, c := range []struct {
		conns       int
		descriptors uint64
		want        int
	}{
		{4096, math.MaxUint64, 4096}, {4096, 4096 + otherDescriptors, 4096}, {4096, 4096 + otherDescriptors - 1, 4095},
		{4096, 1024, 1024 - otherDescriptors}, {4096, 100, 50}, {10, 106, 10},
	} {
		require.Equal(t, c.want, affordableOf(c.conns, c.descriptors), "%+v", c)
	}
	require.Equal(t, 1, affordable(1))
}

// count returns how many connections are open.
func (l *connLimits) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.total
}

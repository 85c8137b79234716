package upstream_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/grantexd/grantexd/upstream"
)

func TestDepartureIsRaisedOnly(t *testing.T) {
	d := upstream.NewDeparture(upstream.ClassRefresh, "", upstream.DepartureHooks{})
	changed := func() bool {
		select {
		case <-d.Changed():
			return true
		default:
			return false
		}
	}
	require.False(t, changed())
	d.Raise(upstream.ClassRefresh, "uid:1")
	require.False(t, changed(), "as urgent as before")
	require.Equal(t, "", d.Caller())
	d.Raise(upstream.ClassMiss, "uid:1")
	d.Raise(upstream.ClassCheck, "uid:2") // does not block, though nobody looked
	require.True(t, changed())
	require.False(t, changed(), "one look sees both")
	d.Raise(upstream.ClassMiss, "uid:3")
	require.Equal(t, upstream.ClassCheck, d.Class())
	require.Equal(t, "uid:2", d.Caller())
	require.False(t, changed())
}

func TestDepartureHooks(t *testing.T) {
	var waits []time.Duration
	departed := 0
	d := upstream.NewDeparture(upstream.ClassMiss, "uid:1", upstream.DepartureHooks{
		Delayed:     func(wait time.Duration) { waits = append(waits, wait) },
		Departed:    func() { departed++ },
		MayTakeLast: func() bool { return departed > 0 },
	})
	require.False(t, d.MayTakeLast())
	d.Delayed(time.Second)
	d.Departed()
	require.Equal(t, []time.Duration{time.Second}, waits)
	require.Equal(t, 1, departed)
	require.True(t, d.MayTakeLast())
}

func TestDepartureWithoutHooks(t *testing.T) {
	d := upstream.DepartureFrom(t.Context())
	require.Equal(t, upstream.ClassMiss, d.Class())
	d.Delayed(time.Second)
	d.Departed()
	require.False(t, d.MayTakeLast())
	require.True(t, upstream.NewDeparture(upstream.ClassCheck, "", upstream.DepartureHooks{}).MayTakeLast())
}

func TestClassNames(t *testing.T) {
	for class, want := range map[upstream.Class]string{
		upstream.ClassRefresh: "refresh", upstream.ClassMiss: "miss", upstream.ClassCheck: "check", 7: "unknown",
	} {
		require.Equal(t, want, class.String())
	}
}

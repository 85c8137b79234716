package clock_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/grantexd/grantexd/upstream/clock"
)

func TestSystemAdvances(t *testing.T) {
	var c clock.System
	a, b := c.Boot(), c.Boot()
	require.Positive(t, a)
	require.GreaterOrEqual(t, b, a)
	require.WithinDuration(t, time.Now(), c.Now(), time.Minute)
	require.NotContains(t, c.Now().String(), "m=", "a monotonic reading would hide steps of the wall clock")
}

func TestBootIDIsStable(t *testing.T) {
	require.NotEmpty(t, clock.BootID())
	require.Equal(t, clock.BootID(), clock.BootID())
}

func TestFakeStepsAndSuspends(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := clock.NewFake()
		wall, boot := c.Now(), c.Boot()
		require.Equal(t, time.Hour, boot)

		time.Sleep(time.Second)
		require.Equal(t, time.Second, c.Now().Sub(wall))
		require.Equal(t, time.Second, c.Boot()-boot)

		c.Step(-time.Minute)
		require.Equal(t, time.Second-time.Minute, c.Now().Sub(wall))
		require.Equal(t, time.Second, c.Boot()-boot)

		c.Suspend(time.Hour)
		require.Equal(t, time.Hour+time.Second-time.Minute, c.Now().Sub(wall))
		require.Equal(t, time.Hour+time.Second, c.Boot()-boot)
	})
}

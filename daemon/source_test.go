package daemon

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/grantexd/grantexd/daemon/broker"
)

func TestADifferenceOfClocksThatCantBeToldFromNone(t *testing.T) {
	for name, c := range map[string]struct{ is, said time.Duration }{
		"the same":           {0, 0},
		"truncated":          {-999 * time.Millisecond, 0},
		"just below, ahead":  {clockResolution - 1, 0},
		"just below, behind": {1 - clockResolution, 0},
		"ahead":              {clockResolution, clockResolution},
		"behind":             {-clockResolution, -clockResolution},
		"an hour":            {time.Hour, time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			st := broker.Status{ClockKnown: true, ClockOffset: c.is}
			require.Equal(t, c.said, clockOffset(st))
			require.Equal(t, c.said.Seconds(), *(&source{}).wireUpstream(st).ClockOffsetSeconds)
		})
	}
}

package budget

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/grantexd/grantexd/upstream"
)

func TestLimitsDefaults(t *testing.T) {
	l := standard(t)
	require.Equal(t, Limits{20, time.Minute, time.Second, 30 * time.Second, 8, 10 * time.Minute}, l)
	require.Equal(t, 61*time.Second, l.hold())
	require.Equal(t, 91*time.Second, l.holdUnanswered())
	require.Equal(t, 3050*time.Millisecond, l.interval())
}

func TestLimitsRange(t *testing.T) {
	tests := []struct {
		name string
		l    Limits
		ok   bool
	}{
		{"smallest limit", Limits{Limit: 1}, true},
		{"largest limit", Limits{Limit: 1000}, true},
		{"limit beyond it", Limits{Limit: 1001}, false},
		{"negative limit", Limits{Limit: -1}, false},
		{"negative window", Limits{Window: -1}, false},
		{"negative margin", Limits{Margin: -1}, false},
		{"negative stall", Limits{Stall: -1}, false},
		{"negative block", Limits{MaxBlock: -1}, false},
		{"longest window", Limits{Window: 24 * time.Hour}, true},
		{"window beyond it", Limits{Window: 24*time.Hour + 1}, false},
		{"no reserve", Limits{Reserve: -1}, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := tt.l.withDefaults()
			require.Equal(t, tt.ok, err == nil, "%v", err)
			_, newErr := New(Options{Limit: tt.l.Limit, Window: tt.l.Window, Margin: tt.l.Margin, Stall: tt.l.Stall, Reserve: tt.l.Reserve, MaxBlock: tt.l.MaxBlock})
			require.Equal(t, err, newErr)
		})
	}
}

func TestNeed(t *testing.T) {
	tests := []struct {
		name    string
		l       Limits
		class   upstream.Class
		last    bool
		need    int
		ofLimit int
	}{
		{"check", Limits{}, upstream.ClassCheck, false, 1, 20},
		{"miss", Limits{}, upstream.ClassMiss, false, 2, 20},
		{"miss that may take the last", Limits{}, upstream.ClassMiss, true, 1, 20},
		{"refresh", Limits{}, upstream.ClassRefresh, false, 9, 20},
		{"refresh may never take the last", Limits{}, upstream.ClassRefresh, true, 9, 20},
		{"refresh without a reserve", Limits{Reserve: -1}, upstream.ClassRefresh, false, 2, 20},
		{"refresh with a reserve of all", Limits{Limit: 5, Reserve: 8}, upstream.ClassRefresh, false, 5, 5},
		{"miss with a limit of one", Limits{Limit: 1}, upstream.ClassMiss, false, 1, 1},
		{"refresh with a limit of one", Limits{Limit: 1}, upstream.ClassRefresh, false, 1, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l, err := tt.l.withDefaults()
			require.NoError(t, err)
			require.Equal(t, tt.ofLimit, l.Limit)
			require.Equal(t, tt.need, l.need(tt.class, tt.last))
		})
	}
}

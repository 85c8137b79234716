package budget

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/grantexd/grantexd/upstream"
	"github.com/grantexd/grantexd/upstream/secret"
)

// TestBelowTheRealClient holds the two packages together: each of the client's
// attempts is a departure, and its retry does not wait for one.
func TestBelowTheRealClient(t *testing.T) {
	tests := []struct {
		name  string
		limit int
		seen  int
	}{
		{"the retry finds a slot", 2, 2},
		{"the retry finds none", 1, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, Options{Limit: tt.limit}, func(t *testing.T, r *rig) {
				r.vault.say(503)
				client, err := upstream.New(upstream.Options{
					BaseURL:   "https://vault.example",
					Transport: r.vault,
					Wrap:      r.budget.Transport,
					Clock:     r.clock,
				})
				require.NoError(t, err)
				dep := upstream.NewDeparture(upstream.ClassCheck, "uid:1", upstream.DepartureHooks{})
				ctx := upstream.WithDeparture(t.Context(), dep)
				_, err = client.Exchange(ctx, secret.New("a.b.c"), "github")
				var answered *upstream.Error
				require.ErrorAs(t, err, &answered, "what the vault said, not that there was no slot")
				require.Equal(t, 503, answered.Status)
				require.Equal(t, tt.seen, r.vault.seen())
				require.Equal(t, tt.seen, dep.Attempts())
				require.Equal(t, tt.seen, r.budget.Status().Used)
				require.Less(t, r.now(), time.Second)
				synctest.Wait()
			})
		})
	}
}

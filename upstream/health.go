package upstream

import (
	"context"
	"net/http"
	"time"
)

// HealthResult is what the vault's health call told.
type HealthResult struct {
	// Healthy is false if one of the vault's own dependencies is down.
	Healthy bool
	// Status is the HTTP status: 200, or 503 if it is not healthy.
	Status int
	// Date is the vault's clock, in UTC with seconds, zero if it did not say.
	Date time.Time
	// ClockOffset is by how much the vault's clock is ahead of ours, negative
	// if it is behind, give or take a second. Zero if Date is.
	ClockOffset time.Duration
	// RoundTrip is how long the answer took.
	RoundTrip time.Duration
}

// Health asks the vault whether it is up (GET /health). It takes no token, is
// never limited and never repeated. Any status but 200 and 503 is an [*Error]:
// something else answers at the address. The other errors are those of
// [Client.Exchange].
func (c *Client) Health(ctx context.Context) (HealthResult, error) {
	wall, started := c.options.Clock.Now(), c.options.Clock.Boot()
	a, _, err := c.do(ctx, call{
		method: http.MethodGet,
		path:   PathHealth,
		once:   true,
		want:   []int{http.StatusOK, http.StatusServiceUnavailable},
	})
	if err != nil {
		return HealthResult{}, err
	}
	result := HealthResult{
		Healthy:   a.status == http.StatusOK,
		Status:    a.status,
		Date:      parseDate(a.header),
		RoundTrip: c.options.Clock.Boot() - started,
	}
	if !result.Date.IsZero() {
		// On average the vault wrote the header half way, half a second after
		// the whole second that it shows.
		written := wall.Add(result.RoundTrip / 2)
		result.ClockOffset = result.Date.Add(time.Second / 2).Sub(written)
	}
	return result, nil
}

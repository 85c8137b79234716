package upstream

import (
	"fmt"
	"time"
)

// NoSlotError says that the budget has no slot for an attempt that can't wait
// for one: a retry. It is returned by the scheduler's RoundTripper.
type NoSlotError struct {
	// Wait is how long it takes until there is a slot, as far as is known.
	Wait time.Duration
}

// Error says how long there is no slot.
func (e *NoSlotError) Error() string {
	return fmt.Sprintf("no slot in the budget for %s", e.Wait.Round(time.Second))
}

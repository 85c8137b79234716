// Package broker answers "a credential for S": from its cache, by joining the
// exchange that is under way for S, or by starting one.
//
// What it promises, and where each promise is kept:
//
//   - nothing is served past its expiry, by whichever clock says so first
//     (held.go);
//   - nothing is served from a grant that was withdrawn, rejected, expired or
//     replaced by another consent (gate.go, trust.go);
//   - one exchange at a time for a service, whoever asks (flight.go), and no
//     caller waits in vain (get.go, waiter.go);
//   - callers that invent names pay for it themselves (names.go);
//   - a failing vault is asked ever more seldom, by one probe for all
//     (cooldown.go);
//   - what is read is refreshed ahead of time, and a revocation at the vault is
//     noticed within one interval (schedule.go).
//
// The hot path is [Broker.Get] of a held credential: an atomic load of the gate,
// a look-up in the cache and three comparisons of clocks. Everything else is
// guarded by one mutex. Times are boot times (time.Duration since boot), since
// the wall clock steps and timers sleep while the machine does.
package broker

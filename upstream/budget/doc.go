// Package budget sees to it that no more than 20 requests leave for the vault in
// any 60 seconds, across crashes, restarts and instances that share a ledger.
//
// It is an http.RoundTripper below the retrying client, so that every attempt
// counts. A request that has to wait does so inside RoundTrip, in a queue whose
// order the request's [upstream.Departure] decides, and its owner is told how
// long it will take. There is no goroutine: everyone who waits lets the others
// leave as well whenever it wakes.
//
// Times are boot times (CLOCK_BOOTTIME), which no one can set and which a
// suspended machine does not stop. A timer does stop then, so no wait relies on
// one for longer than a second.
//
// The hooks of a departure are called without any lock of this package held.
// They may call what they like, Raise and Status included, and should not block:
// the request that they belong to waits for them.
package budget

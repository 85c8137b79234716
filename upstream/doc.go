// Package upstream is a client of the Grantex vault: the exchange of a grant
// token for a credential, and the developer's four calls that fill the vault.
//
// It answers with typed values and typed errors, never with a body. Departures
// of an exchange are described by a [Departure] in the context, so that a
// RoundTripper below the retrying client (see the package budget) can schedule
// every attempt.
package upstream

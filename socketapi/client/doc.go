// Package client is the Go client of the daemon's socket.
//
// The zero [Client] asks the daemon that the environment points to:
//
//	var c client.Client
//	credential, _, err := c.Get(ctx, "github", client.GetOptions{})
//
// Errors that the daemon answers with are *[wire.Error], whose Code says what to
// do; a daemon that can't be reached is a *[DialError], whose Hint does.
package client

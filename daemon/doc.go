// Package daemon joins the layers into grantexd: the watched grant, the client
// of the vault below its budget, the broker, and the API on the socket. It is the
// one place that knows all of them; [Config] is what can be configured, and [Run]
// is the daemon's life.
package daemon

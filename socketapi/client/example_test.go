package client_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/grantexd/grantexd/socketapi/client"
	"github.com/grantexd/grantexd/socketapi/wire"
)

// A program that needs a token asks for it when it needs it, and keeps none.
func ExampleClient_Get() {
	var c client.Client // asks client.DefaultSocket()
	defer c.CloseIdleConnections()

	credential, _, err := c.Get(context.Background(), "github", client.GetOptions{Wait: 5 * time.Second})
	var answered *wire.Error
	var unreachable *client.DialError
	switch {
	case errors.As(err, &unreachable):
		fmt.Fprintln(os.Stderr, unreachable.Hint)
	case errors.As(err, &answered) && answered.RetryAfter > 0:
		fmt.Fprintf(os.Stderr, "%s; ask again in %d s\n", answered.Message, answered.RetryAfter)
	case err != nil:
		fmt.Fprintln(os.Stderr, err)
	default:
		useToken(credential.AccessToken.Reveal())
	}
}

// When the service itself says that a token is no good, the daemon wants to know
// which one it was.
func ExampleClient_Rejected() {
	var c client.Client
	defer c.CloseIdleConnections()
	ctx := context.Background()

	credential, meta, err := c.Get(ctx, "github", client.GetOptions{})
	if err == nil && !useToken(credential.AccessToken.Reveal()) {
		credential, _, err = c.Rejected(ctx, "github", meta.Fingerprint)
	}
	if err == nil {
		useToken(credential.AccessToken.Reveal())
	}
}

func ExampleDefaultSocket() {
	_ = os.Setenv(client.SocketEnv, "/run/agent/grantexd.sock")
	defer func() { _ = os.Unsetenv(client.SocketEnv) }()
	fmt.Println(client.DefaultSocket())
	// Output: /run/agent/grantexd.sock
}

// useToken stands for a call of the service; it reports whether the service took
// the token.
func useToken(string) bool { return true }

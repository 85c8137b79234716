package daemon

import (
	"net"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/grantexd/grantexd/systemd"
)

func TestATCPSocketOfTheServiceManagerIsRefused(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	config := Defaults()
	d := &daemon{config: &config, inherited: &systemd.Inherited{Listeners: map[string][]net.Listener{"grantexd": {l}}}}
	_, err = d.listen()
	require.ErrorContains(t, err, "no Unix socket")
	require.ErrorContains(t, err, "--listen-tcp")
}

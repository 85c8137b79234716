package client

import (
	"os"
	"path/filepath"
)

const (
	// SocketEnv is the environment variable that names the daemon's socket.
	SocketEnv = "GRANTEXD_SOCKET"
	// SystemSocket is the socket of a daemon that runs as a system service.
	SystemSocket = "/run/grantexd/grantexd.sock"
)

// DefaultSocket returns the path of the socket to ask: $GRANTEXD_SOCKET, else the
// user's own ($XDG_RUNTIME_DIR/grantexd/grantexd.sock) if there is one, else
// [SystemSocket].
func DefaultSocket() string {
	if path := os.Getenv(SocketEnv); path != "" {
		return path
	}
	if dir := os.Getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(dir) {
		path := filepath.Join(dir, "grantexd", "grantexd.sock")
		if info, err := os.Stat(path); err == nil && info.Mode().Type() == os.ModeSocket {
			return path
		}
	}
	return SystemSocket
}

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
	if path := ownSocket(); path != "" {
		if info, err := os.Stat(path); err == nil && info.Mode().Type() == os.ModeSocket {
			return path
		}
	}
	return SystemSocket
}

// ownSocket is where the socket of the user's own daemon would be, "" if the user
// has no directory for such.
func ownSocket() string {
	dir := os.Getenv("XDG_RUNTIME_DIR")
	if !filepath.IsAbs(dir) {
		return ""
	}
	return filepath.Join(dir, "grantexd", "grantexd.sock")
}

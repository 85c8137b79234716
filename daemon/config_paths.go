package daemon

import (
	"path/filepath"
	"strings"

	"github.com/grantexd/grantexd/daemon/grant"
)

// setPaths fills in the paths that depend on who runs the daemon, and where.
func (c *Config) setPaths(getenv func(string) string, uid int) {
	c.Grant.File = defaultGrant(uid, getenv)
	c.Socket.Path = defaultSocket(uid, getenv)
	c.State.Dir = defaultStateDir(uid, getenv)
}

// defaultSocket returns where the socket is if nothing says otherwise: in the
// directory that the service manager made ($RUNTIME_DIRECTORY, systemd.exec(5)),
// in that of the system, or, for a user, in $XDG_RUNTIME_DIR. A system service
// under a user of its own has no $XDG_RUNTIME_DIR.
func defaultSocket(uid int, getenv func(string) string) string {
	if dir := firstDirectory(getenv("RUNTIME_DIRECTORY")); dir != "" {
		return filepath.Join(dir, "grantexd.sock")
	}
	if dir := getenv("XDG_RUNTIME_DIR"); uid != 0 && filepath.IsAbs(dir) {
		return filepath.Join(dir, "grantexd", "grantexd.sock")
	}
	return "/run/grantexd/grantexd.sock"
}

// defaultGrant returns where the grant is if nothing says otherwise: among the
// credentials that the service manager passed on, among the settings of a user,
// or among those of the system. A system service under a user of its own has no
// home, and so the system's.
func defaultGrant(uid int, getenv func(string) string) string {
	path := grant.DefaultPath("", getenv)
	if path != grant.FallbackPath || uid == 0 {
		return path
	}
	if dir := getenv("XDG_CONFIG_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "grantexd", "grant")
	}
	if home := getenv("HOME"); filepath.IsAbs(home) && home != "/" {
		return filepath.Join(home, ".config", "grantexd", "grant")
	}
	return path
}

// defaultStateDir returns where state is kept if nothing says otherwise.
func defaultStateDir(uid int, getenv func(string) string) string {
	if dir := firstDirectory(getenv("STATE_DIRECTORY")); dir != "" {
		return dir
	}
	if uid != 0 {
		if dir := getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
			return filepath.Join(dir, "grantexd")
		}
		if home := getenv("HOME"); filepath.IsAbs(home) && home != "/" {
			return filepath.Join(home, ".local", "state", "grantexd")
		}
	}
	return "/var/lib/grantexd"
}

// firstDirectory returns the first of several directories, separated by colons,
// and "" if it is not absolute.
func firstDirectory(list string) string {
	dir, _, _ := strings.Cut(list, ":")
	if !filepath.IsAbs(dir) {
		return ""
	}
	return dir
}

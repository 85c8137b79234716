package grant

import (
	"os"
	"path/filepath"
)

// FallbackPath is where the grant file is looked for if nothing says otherwise.
const FallbackPath = "/etc/grantexd/grant"

// DefaultPath returns the path of the grant file: explicit if it is not empty,
// else the file "grant" in the directory that getenv gives for
// CREDENTIALS_DIRECTORY, if there is one (systemd.exec(5), LoadCredential=), else
// [FallbackPath], whether it exists or not.
//
// systemd copies credentials when the service starts. A grant that is rotated
// without a restart must come from a path of its own.
func DefaultPath(explicit string, getenv func(string) string) string {
	if explicit != "" {
		return explicit
	}
	if dir := getenv("CREDENTIALS_DIRECTORY"); dir != "" {
		credential := filepath.Join(dir, "grant")
		if _, err := os.Lstat(credential); err == nil {
			return credential
		}
	}
	return FallbackPath
}

package socketapi

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// maxSocketPath is the longest path of a Unix socket: sun_path has 108 bytes, the
// last one for NUL (unix(7)).
const maxSocketPath = 107

// PathProblem is something about a socket's directory that lets others replace
// the socket by one of their own, or keep it from being made.
type PathProblem struct {
	// Message says what is wrong and what to do.
	Message string
	// Refused says that Strict refuses it.
	Refused bool
}

// CheckSocketPath says what is wrong with a path for a socket. It changes
// nothing. An error means that no socket can be there: the path is empty, not
// absolute, abstract ("@…"), longer than 107 bytes, or ends in a directory, a
// symlink or anything else that is no socket. The problems are about the
// directory. A directory that does not exist yet has none.
func CheckSocketPath(path string) ([]PathProblem, error) {
	if err := checkPathText(path); err != nil {
		return nil, err
	}
	info, err := os.Lstat(path)
	if err == nil {
		if err := socketOrNothing(info); err != nil {
			return nil, fmt.Errorf("socket %s: %w", path, err)
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("socket %s: %w", path, err)
	}
	return directoryProblems(filepath.Dir(path))
}

// checkPathText refuses what the text alone rules out.
func checkPathText(path string) error {
	switch {
	case path == "":
		return errors.New("the path of the socket is empty")
	case path[0] == '@' || path[0] == 0:
		return fmt.Errorf("socket %q: abstract sockets have no mode, so anybody could connect; give an absolute path", path)
	case strings.IndexByte(path, 0) >= 0:
		return fmt.Errorf("socket %q: the path holds a NUL", path)
	case path[0] != '/':
		return fmt.Errorf("socket %q: the path must be absolute", path)
	case len(path) > maxSocketPath:
		return fmt.Errorf("socket %s: the path has %d bytes, and the system allows %d; choose a shorter one",
			path, len(path), maxSocketPath)
	}
	switch path[strings.LastIndexByte(path, '/')+1:] {
	case "", ".", "..":
		return fmt.Errorf("socket %s: the path must end in the name of the socket", path)
	}
	return nil
}

// socketOrNothing refuses what must not be replaced by a socket.
func socketOrNothing(info fs.FileInfo) error {
	switch info.Mode().Type() {
	case fs.ModeSocket:
		return nil
	case fs.ModeSymlink:
		return errors.New("a symbolic link stands there, which could lead anywhere; remove it, or give the path that it leads to")
	}
	return fmt.Errorf("something that is no socket (%s) stands there; remove it, or choose another path", info.Mode())
}

// directoryProblems looks at dir, in which the socket is made, and at what is
// above it.
func directoryProblems(dir string) ([]PathProblem, error) {
	real, err := filepath.EvalSymlinks(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("directory of the socket: %w", err)
	}
	info, err := os.Stat(real)
	if err != nil {
		return nil, fmt.Errorf("directory of the socket: %w", err)
	}
	var problems []PathProblem
	if writableByOthers(info) {
		problems = append(problems, PathProblem{Refused: true, Message: fmt.Sprintf(
			"others may write the directory %s (%s) and could replace the socket; take that from them, set the sticky bit, "+
				"or use a directory of the daemon's own inside of it", dir, info.Mode())})
	}
	if owner := ownerOf(info); owner != 0 && owner != os.Geteuid() {
		problems = append(problems, PathProblem{Refused: true, Message: fmt.Sprintf(
			"the directory %s belongs to uid %d, who could replace the socket; use one of root's or of the daemon's own", dir, owner)})
	}
	for above := filepath.Dir(real); ; above = filepath.Dir(above) {
		if info, err := os.Stat(above); err == nil && writableByOthers(info) {
			problems = append(problems, PathProblem{Message: fmt.Sprintf(
				"others may write %s (%s), above the directory of the socket, and could put another directory in its place",
				above, info.Mode())})
		}
		if above == filepath.Dir(above) {
			return problems, nil
		}
	}
}

// writableByOthers reports whether others than the owner may remove files from
// the directory: with the sticky bit only a file's own owner may.
func writableByOthers(info fs.FileInfo) bool {
	return info.Mode().Perm()&0o022 != 0 && info.Mode()&fs.ModeSticky == 0
}

// ownerOf returns the uid of a file's owner.
func ownerOf(info fs.FileInfo) int {
	return int(info.Sys().(*syscall.Stat_t).Uid) // as os documents for Linux
}

// makeDirectory makes dir, 0755 whatever the umask, if it is missing. What is
// above it must be there.
func makeDirectory(dir string) error {
	err := os.Mkdir(dir, 0o755)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	return err
}

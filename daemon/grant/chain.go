package grant

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// maxLinks is how many symbolic links a path may have before the kernel refuses
// it with ELOOP (path_resolution(7)).
const maxLinks = 40

// chain is every step that the kernel takes to find a file: which directories it
// looks into, and for which names. Whatever replaces the file changes one of
// those entries: a rename over the file, another target of a link (Kubernetes
// swaps the link ..data), a directory that is moved away and made again.
type chain struct {
	// dirs are the directories looked into, by their physical path, each once.
	// The value says that one of the entries looked for is the file or a link,
	// not a mere directory on the way.
	dirs map[string]bool
	// names are the entries looked for, in whichever directory.
	names map[string]bool
	// complete says that the directory of the file itself was reached.
	complete bool
}

// walk follows the absolute path as far as it exists.
func walk(path string) chain {
	c := chain{dirs: make(map[string]bool), names: make(map[string]bool)}
	dir, rest := "/", split(path)
	for links := 0; len(rest) > 0; {
		name := rest[0]
		rest = rest[1:]
		if name == ".." {
			dir = filepath.Dir(dir) // dir is physical, so this is its parent
			continue
		}
		entry := filepath.Join(dir, name)
		info, err := os.Lstat(entry)
		link := err == nil && info.Mode()&fs.ModeSymlink != 0
		last := len(rest) == 0
		c.names[name] = true
		c.dirs[dir] = c.dirs[dir] || last || link || err != nil
		if last && (err == nil || errors.Is(err, fs.ErrNotExist)) {
			c.complete = !link
		}
		if err != nil {
			return c
		}
		if !link {
			dir = entry
			continue
		}
		target, err := os.Readlink(entry)
		if links++; err != nil || links > maxLinks {
			return c
		}
		if filepath.IsAbs(target) {
			dir = "/"
		}
		rest = append(split(target), rest...)
	}
	return c
}

// split returns the elements of path but for those that lead nowhere. It doesn't
// clean the path: "link/.." is not the directory that link is in.
func split(path string) []string {
	var elements []string
	for e := range strings.SplitSeq(path, "/") {
		if e != "" && e != "." {
			elements = append(elements, e)
		}
	}
	return elements
}

// concerns reports whether an event for path may be about an entry of the chain.
// It compares the name alone, since a directory can be watched by another path
// than the one that events come with.
func (c chain) concerns(path string) bool { return c.names[filepath.Base(path)] }

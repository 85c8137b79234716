package grant

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// overflowGID is the group of files and processes without a group of their own
// (nogroup; /proc/sys/kernel/overflowgid, proc_sys_kernel(5)). Its members are
// others, not a group.
const overflowGID = 65534

// The permission bits of others; those of the group are three bits higher.
const (
	mayRead  fs.FileMode = 0o004
	mayWrite fs.FileMode = 0o002
	mayEnter fs.FileMode = 0o001
)

// exposure says in words that users other than the owner and the group can
// reach the file at path and read or write it, and what to do. It returns "" if
// they can't: because of the file's own mode, or of that of a directory above it.
func exposure(path string, file fs.FileInfo) string {
	var what string
	switch read, write := othersMay(file, mayRead), othersMay(file, mayWrite); {
	case read && write:
		what = "read and change"
	case read:
		what = "read"
	case write:
		what = "change"
	default:
		return ""
	}
	if !reachable(path) {
		return ""
	}
	who := "o"
	if nobodysGroup(file) {
		who = "go"
	}
	return fmt.Sprintf("other users can %s it (mode %04o): run chmod %s= %s, or set defaultMode: 0440 on a Kubernetes volume",
		what, file.Mode().Perm(), who, path)
}

// reachable reports whether others can traverse every directory above the file
// that path leads to. What can't be examined doesn't protect it.
func reachable(path string) bool {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return true
	}
	for dir := filepath.Dir(real); ; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if err == nil && !othersMay(info, mayEnter) {
			return false
		}
		if dir == filepath.Dir(dir) {
			return true
		}
	}
}

// othersMay reports whether info's mode gives others the permission bit.
func othersMay(info fs.FileInfo, bit fs.FileMode) bool {
	return info.Mode()&bit != 0 || nobodysGroup(info) && info.Mode()&(bit<<3) != 0
}

// nobodysGroup reports whether info's group is the one that stands for none.
func nobodysGroup(info fs.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && st.Gid == overflowGID
}

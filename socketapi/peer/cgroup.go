package peer

import (
	"bytes"
	"strings"
)

// maxUnitName is systemd's longest unit name (systemd.unit(5)).
const maxUnitName = 255

// parseCgroup reads /proc/PID/cgroup (cgroups(7)). systemd keeps its units in
// the hierarchy "name=systemd" of cgroup v1, in the unified one of v2 ("0::"),
// or, on a hybrid host, in both.
//
// Only what the host's own manager made counts: in a path, that is the first
// component which is no slice. Below it, a delegated subtree is named by
// whoever it was delegated to.
func parseCgroup(b []byte) (unit, container Fact[string]) {
	var placed, all []string
	for line := range bytes.Lines(b) {
		hierarchy, path, ok := splitCgroupLine(strings.TrimSuffix(string(line), "\n"))
		if !ok || path == "/" {
			continue // nobody placed it anywhere in this hierarchy
		}
		all = append(all, path)
		if hierarchy == "" || hierarchy == "name=systemd" {
			placed = append(placed, path)
		}
	}
	return unitOf(placed), containerOf(append(placed, all...))
}

// splitCgroupLine splits "ID:CONTROLLERS:PATH". The path may hold colons.
func splitCgroupLine(line string) (controllers, path string, ok bool) {
	_, rest, ok := strings.Cut(line, ":")
	if !ok {
		return "", "", false
	}
	controllers, path, ok = strings.Cut(rest, ":")
	return controllers, path, ok && strings.HasPrefix(path, "/")
}

func unitOf(paths []string) Fact[string] {
	if len(paths) == 0 {
		return Unknown[string]("the caller is in the root cgroup, as seen from the daemon")
	}
	first := unitOfPath(paths[0])
	for _, path := range paths[1:] {
		if unitOfPath(path) != first {
			// Somebody placed the process in one hierarchy only, as container
			// managers do: what the other one says is where it came from.
			return Unknown[string]("the cgroup hierarchies disagree about the caller's unit")
		}
	}
	return first
}

func unitOfPath(path string) Fact[string] {
	parts := strings.Split(strings.TrimPrefix(path, "/"), "/")
	if parts[0] == ".." {
		return Unknown[string]("the caller's cgroup lies outside the daemon's cgroup namespace")
	}
	unit, rest, ok := firstUnit(parts)
	if !ok {
		return Unknown[string]("the caller's cgroup is not one of systemd's")
	}
	if !isUserManager(unit) {
		return Known(unit)
	}
	if own, _, ok := firstUnit(rest); ok {
		return Known(unit + "/" + own)
	}
	return Known(unit)
}

// firstUnit skips slices and returns the unit that comes then.
func firstUnit(parts []string) (unit string, rest []string, ok bool) {
	for i, part := range parts {
		// systemd puts a _ before names that the kernel's own files could have.
		name := strings.TrimPrefix(part, "_")
		switch kind := unitType(name); kind {
		case "slice":
			continue
		case "":
			return "", nil, false
		default:
			return name, parts[i+1:], true
		}
	}
	return "", nil, false
}

// unitType returns the type of a unit that can have processes, or "" if name is
// not the name of one.
func unitType(name string) string {
	dot := strings.LastIndexByte(name, '.')
	if dot <= 0 || len(name) > maxUnitName || name[0] == '@' || strings.ContainsFunc(name, notInUnitName) {
		return ""
	}
	switch kind := name[dot+1:]; kind {
	case "service", "scope", "socket", "mount", "swap", "slice":
		return kind
	}
	return ""
}

// notInUnitName reports whether r may not stand in the name of a unit
// (systemd.unit(5)).
func notInUnitName(r rune) bool { return !isAlnum(r) && !strings.ContainsRune(`:-_.\@`, r) }

func isAlnum(r rune) bool {
	return r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
}

// isUserManager reports whether unit is the service manager of a user, whose
// units are that user's own business.
func isUserManager(unit string) bool {
	uid, ok := strings.CutPrefix(unit, "user@")
	if !ok {
		return false
	}
	uid, ok = strings.CutSuffix(uid, ".service")
	return ok && uid != "" && strings.Trim(uid, "0123456789") == ""
}

// containerOf returns the id of the outermost container in the first path that
// has one.
func containerOf(paths []string) Fact[string] {
	for _, path := range paths {
		for part := range strings.SplitSeq(path, "/") {
			if id, ok := containerID(part); ok {
				return Known(id)
			}
		}
	}
	return Unknown[string]("the caller's cgroup names no container")
}

// containerIDLength is the length of the ids of Docker, Podman, containerd and
// CRI-O: a SHA-256 in hex.
const containerIDLength = 64

// containerID returns the id in a cgroup's name: "docker-ID.scope",
// "cri-containerd-ID.scope", "crio-ID.scope", "libpod-ID.scope",
// "kubepods-pod1.slice:cri-containerd:ID", a bare "ID", or "lxc.payload.NAME".
func containerID(part string) (string, bool) {
	if name, ok := strings.CutPrefix(part, "lxc.payload."); ok {
		return name, name != "" && !strings.ContainsFunc(name, notInUnitName)
	}
	id := strings.TrimSuffix(part, ".scope")
	cut := strings.LastIndexAny(id, "-:") + 1
	// conmon is the monitor beside a container, not in it.
	if strings.Contains(id[:cut], "conmon") {
		return "", false
	}
	id = id[cut:]
	return id, len(id) == containerIDLength && strings.Trim(id, "0123456789abcdef") == ""
}

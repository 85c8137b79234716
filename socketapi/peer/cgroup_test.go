package peer

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// hexID is a container's id.
const hexID = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

// Parts of reasons.
const (
	inRoot     = "root cgroup"
	outside    = "outside the daemon's cgroup namespace"
	notSystemd = "not one of systemd's"
	disagree   = "disagree"
)

var cgroupCases = []struct {
	name      string
	file      string
	unit      string
	reason    string // if there is no unit
	container string
}{
	{name: "v2, system service", file: "0::/system.slice/backup.service\n", unit: "backup.service"},
	{name: "v2, no newline", file: "0::/system.slice/backup.service", unit: "backup.service"},
	{name: "v2, template instance", file: "0::/system.slice/system-getty.slice/getty@tty1.service\n", unit: "getty@tty1.service"},
	{name: "v2, escaped dash", file: `0::/system.slice/system-a\x2db.slice/a\x2db@1.service` + "\n", unit: `a\x2db@1.service`},
	{name: "v2, delegated subtree", file: "0::/system.slice/app.service/worker/root.service\n", unit: "app.service"},
	{name: "v2, login session", file: "0::/user.slice/user-1000.slice/session-3.scope\n", unit: "session-3.scope"},
	{name: "v2, init", file: "0::/init.scope\n", unit: "init.scope"},
	{name: "v2, name like a controller's file", file: "0::/system.slice/_cpu.service\n", unit: "cpu.service"},
	{name: "v2, nested slices", file: "0::/a.slice/a-b.slice/a-b-c.slice/d.scope\n", unit: "d.scope"},

	{name: "user unit", file: "0::/user.slice/user-1000.slice/user@1000.service/app.slice/backup.service\n",
		unit: "user@1000.service/backup.service"},
	{name: "user's scope", file: "0::/user.slice/user-1000.slice/user@1000.service/app.slice/app-org.example.scope\n",
		unit: "user@1000.service/app-org.example.scope"},
	{name: "user manager itself", file: "0::/user.slice/user-1000.slice/user@1000.service/init.scope\n",
		unit: "user@1000.service/init.scope"},
	{name: "user manager's bare cgroup", file: "0::/user.slice/user-1000.slice/user@1000.service\n", unit: "user@1000.service"},
	{name: "below a user manager, no unit", file: "0::/user.slice/user@1000.service/x/backup.service\n", unit: "user@1000.service"},
	{name: "user unit that pretends to be a manager", file: "0::/user.slice/user@1000.service/user@0.service/backup.service\n",
		unit: "user@1000.service/user@0.service"},
	{name: "not a user manager", file: "0::/system.slice/user@x.service/backup.service\n", unit: "user@x.service"},
	{name: "nor this", file: "0::/system.slice/user@.service/backup.service\n", unit: "user@.service"},

	{name: "hybrid, agreeing", file: "12:pids:/system.slice/backup.service\n1:name=systemd:/system.slice/backup.service\n0::/system.slice/backup.service\n",
		unit: "backup.service"},
	{name: "hybrid, only v1 used", file: "4:memory:/x\n1:name=systemd:/system.slice/backup.service\n0::/\n", unit: "backup.service"},
	{name: "hybrid, only v2 used", file: "9:name=systemd:/\n8:pids:/\n0::/system.slice/backup.service\n", unit: "backup.service"},
	{name: "hybrid, both at the root", file: "9:name=systemd:/\n0::/\n", reason: inRoot},
	{name: "hybrid, placed by docker in v1 only",
		file:   "5:cpu,cpuacct:/docker/" + hexID + "\n1:name=systemd:/docker/" + hexID + "\n0::/system.slice/containerd.service\n",
		reason: disagree, container: hexID},
	{name: "hybrid, two units", file: "1:name=systemd:/system.slice/a.service\n0::/system.slice/b.service\n", reason: disagree},
	{name: "v1 only", file: "2:cpu:/x\n1:name=systemd:/system.slice/backup.service\n", unit: "backup.service"},
	{name: "other named hierarchy", file: "1:name=elogind:/system.slice/backup.service\n", reason: inRoot},
	{name: "controllers say nothing of units", file: "3:pids:/system.slice/backup.service\n", reason: inRoot},

	{name: "docker, systemd driver", file: "0::/system.slice/docker-" + hexID + ".scope\n",
		unit: "docker-" + hexID + ".scope", container: hexID},
	{name: "docker, cgroupfs driver", file: "0::/docker/" + hexID + "\n", reason: notSystemd, container: hexID},
	{name: "docker in docker", file: "0::/docker/" + hexID + "/docker/" + strings.Repeat("f", 64) + "\n", reason: notSystemd, container: hexID},
	{name: "docker, v1, unused v2", file: "4:memory:/docker/" + hexID + "\n1:name=systemd:/\n0::/\n", reason: inRoot, container: hexID},
	{name: "kubernetes, containerd", file: "0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod12ab.slice/cri-containerd-" + hexID + ".scope\n",
		unit: "cri-containerd-" + hexID + ".scope", container: hexID},
	{name: "kubernetes, cgroupfs", file: "0::/kubepods/burstable/pod12ab/" + hexID + "\n", reason: notSystemd, container: hexID},
	{name: "kubernetes, colons", file: "0::/system.slice/containerd.service/kubepods-pod1.slice:cri-containerd:" + hexID + "\n",
		unit: "containerd.service", container: hexID},
	{name: "cri-o", file: "0::/kubepods.slice/crio-" + hexID + ".scope\n", unit: "crio-" + hexID + ".scope", container: hexID},
	{name: "podman of root", file: "0::/machine.slice/libpod-" + hexID + ".scope/container\n",
		unit: "libpod-" + hexID + ".scope", container: hexID},
	{name: "podman of a user", file: "0::/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-" + hexID + ".scope/container\n",
		unit: "user@1000.service/libpod-" + hexID + ".scope", container: hexID},
	{name: "podman's monitor", file: "0::/machine.slice/libpod-conmon-" + hexID + ".scope\n", unit: "libpod-conmon-" + hexID + ".scope"},
	{name: "lxc", file: "0::/lxc.payload.web1/system.slice/x.service\n", reason: notSystemd, container: "web1"},
	{name: "lxc without a name", file: "0::/lxc.payload./x\n", reason: notSystemd},
	{name: "nspawn", file: "0::/machine.slice/machine-web.scope/payload/system.slice/x.service\n", unit: "machine-web.scope"},
	{name: "id a character short", file: "0::/docker/" + hexID[1:] + "\n", reason: notSystemd},
	{name: "id a character long", file: "0::/docker/" + hexID + "0\n", reason: notSystemd},
	{name: "id in capitals", file: "0::/docker/" + strings.ToUpper(hexID) + "\n", reason: notSystemd},

	{name: "root", file: "0::/\n", reason: inRoot},
	{name: "outside the namespace", file: "0::/../backup.service\n", reason: outside},
	{name: "deleted", file: "0::/system.slice/backup.service (deleted)\n", reason: notSystemd},
	{name: "only slices", file: "0::/user.slice/user-1000.slice\n", reason: notSystemd},
	{name: "name of its own", file: "0::/mine/backup.service\n", reason: notSystemd},
	{name: "bad characters", file: "0::/system.slice/back up.service\n", reason: notSystemd},
	{name: "bad bytes", file: "0::/system.slice/b\xff.service\n", reason: notSystemd},
	{name: "no name", file: "0::/system.slice/.service\n", reason: notSystemd},
	{name: "no prefix", file: "0::/system.slice/@a.service\n", reason: notSystemd},
	{name: "no process in a timer", file: "0::/system.slice/backup.timer\n", reason: notSystemd},
	{name: "longest name", file: "0::/" + strings.Repeat("a", 255-8) + ".service\n", unit: strings.Repeat("a", 255-8) + ".service"},
	{name: "too long a name", file: "0::/" + strings.Repeat("a", 256-8) + ".service\n", reason: notSystemd},
	{name: "colon in the path", file: "0::/system.slice/a:b.service\n", unit: "a:b.service"},
	{name: "relative", file: "0::system.slice/backup.service\n", reason: inRoot},
	{name: "no colons", file: "nonsense\n", reason: inRoot},
	{name: "one colon", file: "0:nonsense\n", reason: inRoot},
	{name: "empty", reason: inRoot},
}

func TestCgroups(t *testing.T) {
	for _, c := range cgroupCases {
		t.Run(c.name, func(t *testing.T) {
			unit, container := parseCgroup([]byte(c.file))
			if c.reason == "" {
				require.Equal(t, Known(c.unit), unit)
			} else {
				require.False(t, unit.Known(), "%v", unit)
				require.Contains(t, unit.Reason(), c.reason)
			}
			if c.container == "" {
				require.False(t, container.Known(), "%v", container)
			} else {
				require.Equal(t, Known(c.container), container)
			}
		})
	}
}

func FuzzCgroup(f *testing.F) {
	for _, c := range cgroupCases {
		f.Add([]byte(c.file))
	}
	if b, err := os.ReadFile("/proc/self/cgroup"); err == nil {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		unit, container := parseCgroup(b)
		if s, known := unit.Get(); known {
			system, own, isUsers := strings.Cut(s, "/")
			require.NotEmpty(t, unitType(system))
			require.NotEqual(t, "slice", unitType(system))
			if isUsers {
				require.True(t, isUserManager(system))
				require.NotEmpty(t, unitType(own))
			}
			// A path with the unit in it must be in the file: nothing is put
			// together from several lines.
			require.Contains(t, string(b), system)
		}
		if s, known := container.Get(); known {
			require.NotEmpty(t, s)
			require.False(t, strings.ContainsFunc(s, notInUnitName))
			require.Contains(t, string(b), s)
		}
	})
}

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/grantexd/grantexd/socketapi"
	"github.com/grantexd/grantexd/socketapi/client"
)

// checkSocket looks at the socket's path, at who could connect, and whether a
// daemon answers already.
func (c *checkup) checkSocket(ctx context.Context) {
	s := c.config.Socket
	problems, err := socketapi.CheckSocketPath(s.Path)
	if err != nil {
		c.bad("socket.path", "%s", err)
		return
	}
	for _, p := range problems {
		if p.Refused && s.Strict {
			c.bad("socket.path", "%s", p.Message)
		} else {
			c.warn("socket.path", "%s", p.Message)
		}
	}
	c.checkDaemon(ctx, s.Path)
	mode, group := fs.FileMode(s.Mode), s.Group
	owner := uint32(os.Geteuid())
	if info, err := os.Stat(s.Path); err == nil {
		// One that is there, perhaps made by systemd with modes of its own.
		mode = info.Mode().Perm()
		if stat, ok := info.Sys().(*syscall.Stat_t); ok {
			owner, group = stat.Uid, strconv.FormatUint(uint64(stat.Gid), 10)
		}
	}
	c.checkCallers(mode, owner, group)
}

// checkDaemon says whether somebody answers on the socket.
func (c *checkup) checkDaemon(ctx context.Context, path string) {
	daemon := &client.Client{Socket: path}
	defer daemon.CloseIdleConnections()
	status, err := daemon.Status(ctx)
	var dial *client.DialError
	switch {
	case err == nil:
		c.ok("socket.path", "%s: a daemon answers (version %s, up for %s)", path, status.Version, seconds(status.UptimeSeconds))
		c.checkRunning(status)
	case errors.As(err, &dial) && errors.Is(err, fs.ErrNotExist):
		c.ok("socket.path", "%s: no daemon runs yet; the path can be used", path)
	case errors.As(err, &dial) && errors.Is(err, syscall.ECONNREFUSED):
		c.ok("socket.path", "%s: left behind by a daemon that is gone; the next one replaces it", path)
	default:
		c.warn("socket.path", "%s", err)
	}
}

// checkCallers says who could connect: whoever may write the socket.
func (c *checkup) checkCallers(mode fs.FileMode, owner uint32, group string) {
	who := []string{accountName(strconv.FormatUint(uint64(owner), 10)), "root"}
	if mode&0o020 != 0 {
		members, name, err := groupMembers(group)
		if err != nil {
			c.bad("socket.group", "%s", err)
			return
		}
		who = append(who, "the group "+name+" ("+orNobody(members)+")")
	}
	if mode&0o002 != 0 {
		c.warn("socket.mode", "%04o: every user of this host may connect, as far as the directories above let him", mode)
		return
	}
	c.ok("socket.mode", "%04o: who may connect: %s", mode, strings.Join(slices.Compact(who), ", "))
}

func orNobody(members []string) string {
	if len(members) == 0 {
		return "no members"
	}
	return strings.Join(members, ", ")
}

func accountName(uid string) string {
	if u, err := user.LookupId(uid); err == nil {
		return u.Username
	}
	return "uid " + uid
}

// groupMembers returns a group's members as the local files name them; "" is this
// process's own group.
func groupMembers(group string) (members []string, name string, err error) {
	if group == "" {
		group = strconv.Itoa(os.Getegid())
	}
	g, err := user.LookupGroupId(group)
	if err != nil {
		if g, err = user.LookupGroup(group); err != nil {
			if _, numeric := strconv.Atoi(group); numeric == nil {
				return nil, group, nil // a group without a name
			}
			return nil, "", fmt.Errorf("there is no group %s: make it, or name another one", shown(group))
		}
	}
	members = fromColons("/etc/group", func(f []string) []string {
		if len(f) == 4 && f[2] == g.Gid && f[3] != "" {
			return strings.Split(f[3], ",")
		}
		return nil
	})
	members = append(members, fromColons("/etc/passwd", func(f []string) []string {
		if len(f) == 7 && f[3] == g.Gid {
			return f[:1]
		}
		return nil
	})...)
	slices.Sort(members)
	return slices.Compact(members), g.Name, nil
}

// fromColons collects what pick finds in the lines of a file such as group(5).
// One that can't be read has nothing.
func fromColons(path string, pick func(fields []string) []string) []string {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer func() { _ = f.Close() }()
	var out []string
	for lines := bufio.NewScanner(f); lines.Scan(); {
		out = append(out, pick(strings.Split(lines.Text(), ":"))...)
	}
	return out
}

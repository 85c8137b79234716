package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/grantexd/grantexd/socketapi/access"
	"github.com/grantexd/grantexd/socketapi/peer"
	"github.com/grantexd/grantexd/upstream"
)

// asQuestion asks which access rule decides when somebody reads a service. It is
// asked of the configuration, so that no daemon has to run.
type asQuestion struct {
	// who is UID:GID, each by number or name; "" asks nothing.
	who     string
	service string
}

// addAsFlag adds --as and its argument.
func addAsFlag(cmd *cobra.Command) *asQuestion {
	q := &asQuestion{}
	cmd.Flags().StringVar(&q.who, "as", "", "say which access rule decides when `UID:GID` reads the service that is the argument")
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		switch {
		case q.who == "" && len(args) > 0:
			return usagef("%s takes a service only with --as: see %s --help", cmd.CommandPath(), cmd.CommandPath())
		case q.who != "" && len(args) != 1:
			return usagef("--as needs the one service that is read: %s --as UID:GID SERVICE", cmd.CommandPath())
		case q.who != "" && !upstream.ValidService(args[0]):
			return usagef("%s: %w", cmd.CommandPath(), upstream.ErrInvalidService)
		case q.who != "":
			q.service = args[0]
		}
		return nil
	}
	return q
}

// checkAs says what each rule makes of the read, and what comes of it.
func (c *checkup) checkAs(q *asQuestion) {
	if q.who == "" {
		return
	}
	const subject = "access.as"
	caller, err := callerOf(q.who)
	if err != nil {
		c.bad(subject, "%s", err)
		return
	}
	rules, err := access.Compile(c.config.Access, nil)
	if err != nil {
		return // checkAccess has said so
	}
	for _, v := range rules.Explain(caller, q.service) {
		says := "does not allow it"
		if v.Allows {
			says = "allows it"
		}
		c.ok(subject, "%s %s: %s", v.Rule, says, v.Reason)
	}
	decision := rules.Decide(caller, q.service)
	if decision.Allowed {
		c.ok(subject, "%s may read %s: %s", caller.Principal(), q.service, decision.Reason)
		return
	}
	c.warn(subject, "%s may not read %s: %s; if it should, add a rule that names its user, group or unit, and the service",
		caller.Principal(), q.service, decision.Reason)
}

// callerOf is the caller that UID:GID describes.
func callerOf(text string) (*peer.Identity, error) {
	userText, groupText, ok := strings.Cut(text, ":")
	if !ok || userText == "" || groupText == "" {
		return nil, errors.New("--as takes UID:GID, such as 1001:1001")
	}
	uid, err := accountID(userText, access.Host{}.UID)
	if err != nil {
		return nil, fmt.Errorf("--as: there is no such user on this host: %w", err)
	}
	gid, err := accountID(groupText, access.Host{}.GID)
	if err != nil {
		return nil, fmt.Errorf("--as: there is no such group on this host: %w", err)
	}
	return peer.As(uid, gid), nil
}

// accountID is the number of a user or a group that is named by number or name.
func accountID(text string, lookup func(string) (uint32, error)) (uint32, error) {
	if n, err := strconv.ParseUint(text, 10, 32); err == nil {
		return uint32(n), nil
	}
	return lookup(text)
}

package main

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/grantexd/grantexd/socketapi/client"
	"github.com/grantexd/grantexd/socketapi/wire"
	"github.com/grantexd/grantexd/upstream"
)

// The exit codes. Scripts may branch on them.
const (
	exitOK          = 0
	exitFailure     = 1
	exitUsage       = 2
	exitUnreachable = 3
	exitRefused     = 4
	exitNotFound    = 5
	exitLimited     = 6
	exitUpstream    = 7
	exitNoGrant     = 8
	exitCannotRun   = 126 // as env(1) has it
	exitNoCommand   = 127
)

// exitCodes says what each code means, in the words of the documentation.
var exitCodes = []struct {
	code    int
	meaning string
}{
	{exitOK, "success"},
	{exitFailure, "a failure that no other code stands for; for check, at least one error"},
	{exitUsage, "the command line, the configuration or a service's name is wrong"},
	{exitUnreachable, "the daemon can't be reached on its socket"},
	{exitRefused, "refused: the grant has expired, the vault rejected it or the API key, its scopes don't cover the service, or this user may not read it here"},
	{exitNotFound, "the vault stores no such credential, or it has no such field"},
	{exitLimited, "the rate limit: the message says when to try again"},
	{exitUpstream, "the vault fails, does not answer, or holds an expired credential"},
	{exitNoGrant, "the daemon has no grant: it was withdrawn, or its file is absent or holds none"},
	{exitCannotRun, "exec: the command can't be run"},
	{exitNoCommand, "exec: there is no such command"},
}

// exitCodeTable is the text of "grantexd help exit-codes".
func exitCodeTable() string {
	var b strings.Builder
	b.WriteString("Every command ends with one of these codes; exec, once it has started its command, with that one's.\n\n")
	for _, c := range exitCodes {
		fmt.Fprintf(&b, "  %3d  %s\n", c.code, c.meaning)
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// wireExits are the exit codes of what the daemon answers.
var wireExits = map[wire.Code]int{
	wire.CodeBadRequest:        exitUsage,
	wire.CodeUnauthorized:      exitRefused,
	wire.CodeForbidden:         exitRefused,
	wire.CodePeerDenied:        exitRefused,
	wire.CodeForbiddenOrigin:   exitRefused,
	wire.CodeNotFound:          exitNotFound,
	wire.CodeRateLimited:       exitLimited,
	wire.CodeCredentialExpired: exitUpstream,
	wire.CodeUpstreamError:     exitUpstream,
	wire.CodeUpstreamTimeout:   exitUpstream,
	wire.CodeGrantUnavailable:  exitNoGrant,
}

// exitError is an error with an exit code of its own.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

// withExit gives an error an exit code.
func withExit(code int, err error) error { return &exitError{code, err} }

// usagef is an error of the command line.
func usagef(format string, args ...any) error {
	return withExit(exitUsage, fmt.Errorf(format, args...))
}

// exitCodeOf finds the exit code of a command's error.
func exitCodeOf(err error) int {
	var own *exitError
	var answer *wire.Error
	var dial *client.DialError
	var vault *upstream.Error
	var malformed *upstream.MalformedError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &own):
		return own.code
	case errors.As(err, &dial):
		return exitUnreachable
	case errors.As(err, &answer):
		if code, ok := wireExits[answer.Code]; ok {
			return code
		}
		return exitFailure
	case errors.As(err, &vault) && vault.Code == "":
		return exitUpstream // it was not the vault that answered
	case errors.As(err, &vault):
		return vaultExit(vault.Status)
	case errors.Is(err, upstream.ErrInvalidService):
		return exitUsage
	case errors.Is(err, upstream.ErrConnect), errors.Is(err, upstream.ErrTimeout), errors.As(err, &malformed):
		return exitUpstream
	}
	return exitFailure
}

// vaultExit is the exit code of an answer of the vault itself.
func vaultExit(status int) int {
	switch status {
	case http.StatusBadRequest:
		return exitUsage
	case http.StatusUnauthorized, http.StatusForbidden:
		return exitRefused
	case http.StatusNotFound:
		return exitNotFound
	case http.StatusTooManyRequests:
		return exitLimited
	}
	return exitUpstream
}

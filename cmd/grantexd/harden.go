package main

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// harden keeps the tokens in this process's memory out of core dumps, and other
// processes of the same user from reading it (PR_SET_DUMPABLE(2const)). It
// returns what gives core dumps back to a command that is started in this
// process's place.
func harden() (restoreCore func() error, err error) {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return nil, fmt.Errorf("keeping the process from being dumped: %w", err)
	}
	var before unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_CORE, &before); err != nil {
		return nil, fmt.Errorf("reading the limit of core dumps: %w", err)
	}
	// The hard limit stays, or there would be no way back.
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{Cur: 0, Max: before.Max}); err != nil {
		return nil, fmt.Errorf("forbidding core dumps: %w", err)
	}
	return func() error { return unix.Setrlimit(unix.RLIMIT_CORE, &before) }, nil
}

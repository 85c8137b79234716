package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"syscall"
)

// errKilled ends a command that was told twice to stop.
var errKilled = errors.New("told to stop a second time: stopped without waiting for what was under way")

// untilSignal runs work until it ends, or SIGTERM or SIGINT ends its context. A
// second one doesn't wait for it to return: the process is about to end. (The
// default action would do, but for process 1 of a container there is none.)
func untilSignal(ctx context.Context, work func(context.Context) error) error {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	defer signal.Stop(signals)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- work(ctx) }()
	select {
	case err := <-done:
		return err
	case <-signals:
		cancel()
	}
	select {
	case err := <-done:
		return err
	case <-signals:
		return errKilled
	}
}

// hangups receives SIGHUP from now on, until stop is called.
func hangups() (c <-chan os.Signal, stop func()) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGHUP)
	return signals, func() { signal.Stop(signals) }
}

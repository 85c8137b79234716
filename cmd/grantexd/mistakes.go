package main

import (
	"errors"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// flagError tells of a wrong flag without its value, which may be a secret.
func flagError(cmd *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	var value *pflag.InvalidValueError
	message, _, _ := strings.Cut(err.Error(), "\n")
	switch {
	case errors.As(err, &unknown) && unknown.GetSpecifiedShortnames() != "":
		message = "there are no one-letter flags but -h"
		if name, _, _ := strings.Cut(unknown.GetSpecifiedShortnames(), "="); cmd.Flags().Lookup(name) != nil {
			return usagef("%s: write --%s", message, name)
		}
	case errors.As(err, &unknown):
		message = "unknown flag: " + shownFlag(unknown.GetSpecifiedName())
		if near := nearestOf(unknown.GetSpecifiedName(), flagNames(cmd)); near != "" {
			return usagef("%s: did you mean --%s?", message, near)
		}
	case errors.As(err, &value):
		message = "invalid value for --" + value.GetFlag().Name
		if _, notNumber := strconv.ParseFloat(value.GetValue(), 64); value.GetFlag().Value.Type() == "duration" && notNumber == nil {
			message = "--" + value.GetFlag().Name + " needs a unit, such as 5s"
		}
	}
	return usagef("%s: see %s --help", message, cmd.CommandPath())
}

// shownFlag is the name of an unknown flag for an error, unless it looks like a
// secret.
func shownFlag(name string) string {
	if shown(name) != name {
		return shown(name)
	}
	return "--" + name
}

// topicArgs refuses a topic that help doesn't have, which cobra answers with the
// help of the whole.
func topicArgs(help *cobra.Command, args []string) error {
	target, rest, err := help.Root().Find(args)
	if err != nil {
		return usagef("there is no such topic: see %s --help", help.Root().Name())
	}
	if len(rest) == 0 || !target.HasSubCommands() {
		return nil
	}
	near := "see " + target.CommandPath() + " --help"
	if name := nearestOf(rest[0], commandNames(target)); name != "" {
		parents := strings.TrimPrefix(target.CommandPath(), help.Root().Name())
		near = "did you mean " + help.CommandPath() + parents + " " + name + "?"
	}
	return usagef("%s: there is no such topic: %s", shown(rest[0]), near)
}

// nearestOf returns the name of which word is most likely a misspelling or a
// beginning, "" if there is none.
func nearestOf(word string, names []string) string {
	if word == "" || len(word) > 64 {
		return "" // no misspelling, and a long one is slow to compare
	}
	// Cobra knows how to find commands; these are none.
	list := &cobra.Command{}
	for _, name := range names {
		list.AddCommand(&cobra.Command{Use: name, Run: func(*cobra.Command, []string) {}})
	}
	for list.SuggestionsMinimumDistance = 1; list.SuggestionsMinimumDistance <= 2; list.SuggestionsMinimumDistance++ {
		if near := list.SuggestionsFor(word); len(near) > 0 {
			return near[0]
		}
	}
	return ""
}

// commandNames are the commands and topics below cmd that help shows.
func commandNames(cmd *cobra.Command) []string {
	var names []string
	for _, c := range cmd.Commands() {
		if !c.Hidden {
			names = append(names, c.Name())
		}
	}
	return names
}

func flagNames(cmd *cobra.Command) []string {
	var names []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
	return names
}

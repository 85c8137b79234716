package main

import (
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/grantexd/grantexd/daemon"
)

// configFlags are the flags of a command that reads the daemon's configuration.
type configFlags struct {
	file string
	set  *pflag.FlagSet
	own  map[string]bool
}

// addConfigFlags adds --config and a flag for each key; --help shows those for
// every day.
func addConfigFlags(cmd *cobra.Command) *configFlags {
	c := &configFlags{set: cmd.Flags(), own: map[string]bool{}}
	c.set.StringVar(&c.file, "config", "", "the configuration `FILE` (default "+daemon.DefaultConfigFile+", if there is one)")
	for _, k := range daemon.Reference() {
		usage := "`" + placeholder(k) + "`: " + k.Meaning
		if k.Default != "" {
			usage += " (default " + k.Default + ")"
		}
		c.set.String(k.Flag, "", usage)
		flag := c.set.Lookup(k.Flag)
		flag.Hidden = !k.Common
		if k.IsSwitch() {
			flag.NoOptDefVal = "true"
		}
		c.own[k.Flag] = true
	}
	cmd.Long += "\n\nEvery key of the configuration has a flag; those that are not shown below, and all\n" +
		"environment variables, are in \"grantexd help config\"."
	return c
}

// placeholder stands for a flag's value in its help.
func placeholder(k daemon.Key) string {
	switch k.Unit {
	case "path":
		return "PATH"
	case "list":
		return "A,B"
	case "octal mode":
		return "MODE"
	case "true or false":
		return "BOOL"
	}
	switch k.Name {
	case "upstream.url":
		return "URL"
	case "socket.listen-tcp":
		return "ADDR"
	case "socket.group":
		return "GROUP"
	}
	return "WORD"
}

// given returns the flags that were given.
func (c *configFlags) given() map[string]string {
	out := map[string]string{}
	c.set.Visit(func(f *pflag.Flag) {
		if c.own[f.Name] {
			out[f.Name] = f.Value.String()
		}
	})
	return out
}
